#include "kernels/instrument/profiled.hpp"

#include <algorithm>

#include "kernels/instrument/cost.hpp"
#include "src/core/clock.hpp"
#include "src/core/tensor.hpp"

namespace slipway {
namespace {

const Backend* wrapped = nullptr;

/// What it takes to start something and to wait for it where the device works beside the host: an op's span has it too,
/// and its time on the device has not.
double measure_launch_overhead_s(MemorySpace& space) {
  if (space.is_host()) return 0;
  constexpr int kRuns = 50;
  Buffer<float> one(1, space);
  double best_s = 1;
  for (int run = 0; run < kRuns; ++run) {
    space.synchronize();
    const double begin_s = now_s();
    space.zero(one.data(), sizeof(float));
    space.synchronize();
    best_s = std::min(best_s, now_s() - begin_s);
  }
  return best_s;
}

template <auto Entry, class Op>
void timed(Stream& stream, const Op& op, const char* entry) {
  if (!profile::on()) return (wrapped->*Entry)(stream, op);
  static const double launch_overhead_s = measure_launch_overhead_s(*wrapped->memory);
  profile::Scope scope(name_of(op, entry), cost_of(op, *wrapped->memory));
  (wrapped->*Entry)(stream, op);
  wrapped->memory->synchronize();  // what runs beside the host is measured too, at the price of its overlap
  scope.exclude(launch_overhead_s);
}

}  // namespace

const Backend& profiled(const Backend& inner) {
  require(wrapped == nullptr || wrapped == &inner, "profiled: another table is wrapped already");
  wrapped = &inner;
  static const Backend backend = [&] {
    Backend outer = inner;
#define SLIPWAY_OP(entry, Op) \
  outer.entry = [](Stream& stream, const Op& op) { timed<&Backend::entry>(stream, op, #entry); };
    SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP
    return outer;
  }();
  return backend;
}

}  // namespace slipway
