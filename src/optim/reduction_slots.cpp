#include "src/optim/reduction_slots.hpp"

#include <algorithm>
#include <bit>
#include <string>
#include <vector>

#include "src/core/error.hpp"
#include "src/core/words.hpp"

namespace slipway {
namespace {

/// The largest power of two that divides `value`.
int largest_power_of_two_divisor(int value) { return value & -value; }

std::string nearest_divisors(int batch, int wanted) {
  int below = 0, above = 0;
  const auto consider = [&](int divisor) {
    if (divisor < wanted) below = std::max(below, divisor);
    if (divisor > wanted && (above == 0 || divisor < above)) above = divisor;
  };
  for (std::int64_t d = 1; d * d <= batch; ++d)
    if (batch % d == 0) consider(static_cast<int>(d)), consider(static_cast<int>(batch / d));
  if (below == 0) return join(above);
  return above == 0 ? join(below) : join(below, " or ", above);
}

}  // namespace

int ReductionSlots::default_micro_batch(int batch, int slots) {
  return batch /
         std::min(static_cast<int>(std::bit_floor(static_cast<unsigned>(slots))), largest_power_of_two_divisor(batch));
}

ReductionSlots ReductionSlots::make(int batch, int micro_batch, int slots, int ranks) {
  if (slots < 1 || !std::has_single_bit(static_cast<unsigned>(slots)))
    throw Error(Fault::kConfig, join("numerics.slots is ", slots, "; a power of two is expected, such as ",
                                     std::bit_ceil(static_cast<unsigned>(std::max(slots, 1)))));
  if (batch < 1 || micro_batch < 1 || batch % micro_batch != 0)
    throw Error(Fault::kConfig, join("train.micro_batch ", micro_batch, " does not divide train.batch ", batch,
                                     "; the nearest that does is ", nearest_divisors(std::max(batch, 1), micro_batch)));
  ReductionSlots plan{.micro_batches = batch / micro_batch, .ranks = ranks};
  plan.slots = std::min(slots, largest_power_of_two_divisor(plan.micro_batches));
  if (!std::has_single_bit(static_cast<unsigned>(ranks)) || ranks > plan.slots) {
    const int max_ranks = std::min(static_cast<int>(std::bit_floor(static_cast<unsigned>(ranks))), plan.slots);
    throw Error(Fault::kConfig,
                join("a step of ", pluralize(plan.micro_batches, "micro-batch", "micro-batches"), " has ",
                     pluralize(plan.slots, "slot"), ", which ", ranks, " data ranks cannot share evenly: start ",
                     pluralize(max_ranks, "data rank"), " (mpirun -n ", max_ranks,
                     " times mesh.tensor), or change train.batch, train.micro_batch or numerics.slots"));
  }
  return plan;
}

double reduce_slots(std::span<const double> per_micro_batch, int slots) {
  const std::size_t per_slot = per_micro_batch.size() / static_cast<std::size_t>(slots);
  std::vector<double> sums(static_cast<std::size_t>(slots));
  for (std::size_t i = 0; i < per_micro_batch.size(); ++i) sums[i / per_slot] += per_micro_batch[i];
  for (std::size_t width = sums.size(); width > 1; width /= 2)  // s is added to s^1, then the sums are likewise
    for (std::size_t i = 0; i < width / 2; ++i) sums[i] = sums[2 * i] + sums[2 * i + 1];
  return sums[0];
}

}  // namespace slipway
