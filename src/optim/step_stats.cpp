#include "src/optim/step_stats.hpp"

#include <bit>

namespace slipway {

StepStats::StepStats(int micro_batches, MemorySpace& space) : space_(space), running_(1, space) {
  for (Set& one : sets_) {
    one.on_device = Buffer<double>(kFixed + static_cast<std::size_t>(micro_batches), space);
    one.on_host = Buffer<double>(one.on_device.size(), space.staging());
  }
  reset();
}

void StepStats::copy_to_host_async() {
  require(copied_ - read_ < 2, "StepStats::copy_to_host_async: two steps are pending already");
  Set& one = set();
  one.copied =
      space_.copy_to_host_async(one.on_host.data(), one.on_device.data(), one.on_device.size() * sizeof(double));
  ++copied_;
}

StepStatsView StepStats::read() {
  require(read_ < copied_, "StepStats::read: no step is pending");
  const Set& one = sets_[read_++ % 2];
  space_.wait_event(one.copied);
  const std::uint64_t scale = std::bit_cast<std::uint64_t>(one.on_host[1]);
  return {.grad_norm = one.on_host[0],
          .clip_scale = std::bit_cast<float>(static_cast<std::uint32_t>(scale)),
          .first_non_finite = std::bit_cast<std::int64_t>(one.on_host[2]),
          .loss_sums = one.on_host.span().subspan(kFixed)};
}

void StepStats::reset() {
  const float one = 1.0f;
  space_.write(running_.data(), &one, sizeof one);
  read_ = copied_;
}

}  // namespace slipway
