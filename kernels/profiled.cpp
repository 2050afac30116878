#include "kernels/profiled.hpp"

#include "kernels/cost.hpp"

namespace slipway {
namespace {

const KernelTable* wrapped = nullptr;

template <auto Entry, class Op>
void timed(Stream& stream, const Op& op, const char* entry) {
  if (!profile::on()) return (wrapped->*Entry)(stream, op);
  const profile::Scope scope(name_of(op, entry), cost_of(op, *wrapped->memory));
  (wrapped->*Entry)(stream, op);
  wrapped->memory->wait();  // what runs beside the host is measured too, at the price of its overlap
}

}  // namespace

const KernelTable& profiled(const KernelTable& inner) {
  require(wrapped == nullptr || wrapped == &inner, "profiled: another table is wrapped already");
  wrapped = &inner;
  static const KernelTable table = [&] {
    KernelTable outer = inner;
#define SLIPWAY_OP(entry, Op) \
  outer.entry = [](Stream& stream, const Op& op) { timed<&KernelTable::entry>(stream, op, #entry); };
    SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP
    return outer;
  }();
  return table;
}

}  // namespace slipway
