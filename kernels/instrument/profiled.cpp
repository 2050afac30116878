#include "kernels/instrument/profiled.hpp"

#include <algorithm>

#include "kernels/instrument/cost.hpp"
#include "src/core/clock.hpp"
#include "src/core/tensor.hpp"

namespace slipway {
namespace {

Backend wrapped;  // whose ops the spans are of; without ops until the first call

/// Seconds to launch an op and to synchronize, on an asynchronous device: part of an op's span, but not of its time on
/// the device.
double measure_launch_overhead_s(MemorySpace& space) {
  if (space.is_host()) return 0;
  constexpr int kRuns = 50;
  Buffer<float> element(1, space);
  double best_s = 1;
  for (int run = 0; run < kRuns; ++run) {
    space.synchronize();
    const double begin_s = now_s();
    space.zero(element.data(), sizeof(float));
    space.synchronize();
    best_s = std::min(best_s, now_s() - begin_s);
  }
  return best_s;
}

template <auto Member, class Op>
void run_with_span(Stream& stream, const Op& op, const char* op_name) {
  if (!profile::is_enabled()) return (wrapped.*Member)(stream, op);
  static const double launch_overhead_s = measure_launch_overhead_s(*wrapped.memory);
  profile::Scope scope(name_of(op, op_name), cost_of(op, *wrapped.memory));
  (wrapped.*Member)(stream, op);
  wrapped.memory->synchronize();  // measures asynchronous work too, and prevents its overlap with the host
  scope.exclude(launch_overhead_s);
}

}  // namespace

Backend profiled(const Backend& inner) {
  require(wrapped.matmul == nullptr || (wrapped.matmul == inner.matmul && wrapped.device == std::string(inner.device)),
          "profiled: another backend is wrapped already");
  wrapped = inner;
  Backend outer = inner;
#define SLIPWAY_OP(op_name, Op) \
  outer.op_name = [](Stream& stream, const Op& op) { run_with_span<&Backend::op_name>(stream, op, #op_name); };
  SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP
  return outer;
}

}  // namespace slipway
