#include "src/optim/step_stats.hpp"

#include <bit>

namespace slipway {

StepStats::StepStats(int micro_batches, MemorySpace& space) : space_(space), sticky_coef_(1, space) {
  for (Buffers& buffers : buffers_) {
    buffers.on_device = Buffer<double>(kNumScalars + static_cast<std::size_t>(micro_batches), space);
    buffers.on_host = Buffer<double>(buffers.on_device.size(), space.staging());
  }
  reset();
}

void StepStats::copy_to_host_async() {
  require(steps_copied_ - steps_read_ < 2, "StepStats::copy_to_host_async: two steps are pending already");
  Buffers& buffers = current();
  buffers.copy_done = space_.copy_to_host_async(buffers.on_host.data(), buffers.on_device.data(),
                                                buffers.on_device.size() * sizeof(double));
  ++steps_copied_;
}

StepStatsView StepStats::read() {
  require(steps_read_ < steps_copied_, "StepStats::read: no step is pending");
  const Buffers& buffers = buffers_[steps_read_++ % 2];
  space_.wait_event(buffers.copy_done);
  const std::uint64_t clip_bits = std::bit_cast<std::uint64_t>(buffers.on_host[1]);
  return {.grad_norm = buffers.on_host[0],
          .clip_coef = std::bit_cast<float>(static_cast<std::uint32_t>(clip_bits)),
          .first_non_finite = std::bit_cast<std::int64_t>(buffers.on_host[2]),
          .loss_sums = buffers.on_host.span().subspan(kNumScalars)};
}

void StepStats::reset() {
  const float one = 1.0f;
  space_.write(sticky_coef_.data(), &one, sizeof one);
  steps_read_ = steps_copied_;
}

}  // namespace slipway
