#include "src/train/schedule_changes.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "src/core/error.hpp"

namespace slipway {
namespace {

constexpr double kMinJump =
    0.01;  // of the rate: one step of a schedule changes it less, unless that has very few steps

std::string rate_text(double rate) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2e", rate);
  return text;
}

}  // namespace

std::vector<std::string> schedule_warnings(const std::optional<RunSchedule>& previous, const RunSchedule& current,
                                           std::int64_t start_step, bool explicit_schedule, bool explicit_rate) {
  std::vector<std::string> warnings;
  if (start_step >= current.steps) return warnings;
  const std::int64_t horizon = current.lr_schedule.horizon;
  const std::int64_t first = std::max(start_step, horizon) + 1;  // at the floor
  const bool same_length = previous && previous->steps == current.steps;
  const std::string stretch_flags = join("--optim.schedule_steps ", current.steps,
                                         current.lr_schedule.decay_shape == DecayShape::kWsd
                                             ? join(" --optim.decay_steps ", current.lr_schedule.decay)
                                             : std::string());
  if (!explicit_schedule && !same_length && current.steps > horizon)
    warnings.push_back(join(first == current.steps ? join("step ", first, " trains")
                                                   : join("steps ", first, " to ", current.steps, " train"),
                            " at the floor of the learning rate, ", rate_text(current.lr_schedule.lr(horizon)),
                            ": the schedule ends at optim.schedule_steps ", horizon, "; ", stretch_flags,
                            " stretches it over the whole run"));
  if (!explicit_schedule && !same_length && current.steps < horizon)
    warnings.push_back(join("the run ends at step ", current.steps, " with a learning rate of ",
                            rate_text(current.lr_schedule.lr(current.steps - 1)), ", where its floor is ",
                            rate_text(current.lr_schedule.peak * current.lr_schedule.floor),
                            ": the schedule goes on to optim.schedule_steps ", horizon, "; ", stretch_flags,
                            " brings it down by the end of the run"));
  if (!previous || start_step == 0 || explicit_rate) return warnings;
  const double old_rate = previous->lr_schedule.lr(start_step), new_rate = current.lr_schedule.lr(start_step);
  const auto is_jump = [&](double rate) { return std::abs(rate - old_rate) > kMinJump * std::max(rate, old_rate); };
  LrSchedule old_horizon = current.lr_schedule;
  old_horizon.horizon = previous->lr_schedule.horizon;
  const bool only_horizon_changed = previous->lr_schedule.horizon != horizon &&
                                    old_horizon.warmup <= old_horizon.horizon &&
                                    old_horizon.decay <= old_horizon.horizon && !is_jump(old_horizon.lr(start_step));
  if (is_jump(new_rate))
    warnings.push_back(
        join("the learning rate jumps at step ", start_step + 1, ": it was to be ", rate_text(old_rate), " and is ",
             rate_text(new_rate),
             current.steps > previous->steps && horizon == current.steps
                 ? join(", since the schedule now goes over all ", horizon, " steps")
             : only_horizon_changed
                 ? join(" now that optim.schedule_steps is ", horizon, " instead of ", previous->lr_schedule.horizon,
                        "; --optim.schedule_steps ", previous->lr_schedule.horizon, " keeps the old rate")
                 : std::string(" with the keys that were given; leave them out to keep the old rate")));
  return warnings;
}

}  // namespace slipway
