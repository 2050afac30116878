#include "src/train/schedule_changes.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "src/core/error.hpp"

namespace slipway {
namespace {

constexpr double kJump = 0.01;  // of the rate: one step of a schedule changes it less, unless that has very few steps

std::string rate_text(double rate) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2e", rate);
  return text;
}

}  // namespace

std::vector<std::string> schedule_warnings(const std::optional<RunSchedule>& before, const RunSchedule& now,
                                           std::int64_t done, bool schedule_given, bool rate_given) {
  std::vector<std::string> found;
  if (done >= now.steps) return found;
  const std::int64_t horizon = now.lr_schedule.horizon;
  const std::int64_t first = std::max(done, horizon) + 1;  // at the floor
  const bool same_length = before && before->steps == now.steps;
  const std::string stretch =
      join("--optim.schedule_steps ", now.steps,
           now.lr_schedule.decay_shape == DecayShape::kWsd ? join(" --optim.decay_steps ", now.lr_schedule.decay)
                                                           : std::string());
  if (!schedule_given && !same_length && now.steps > horizon)
    found.push_back(join(
        first == now.steps ? join("step ", first, " trains") : join("steps ", first, " to ", now.steps, " train"),
        " at the floor of the learning rate, ", rate_text(now.lr_schedule.lr(horizon)),
        ": the schedule ends at optim.schedule_steps ", horizon, "; ", stretch, " stretches it over the whole run"));
  if (!schedule_given && !same_length && now.steps < horizon)
    found.push_back(join("the run ends at step ", now.steps, " with a learning rate of ",
                         rate_text(now.lr_schedule.lr(now.steps - 1)), ", where its floor is ",
                         rate_text(now.lr_schedule.peak * now.lr_schedule.floor),
                         ": the schedule goes on to optim.schedule_steps ", horizon, "; ", stretch,
                         " brings it down by the end of the run"));
  if (!before || done == 0 || rate_given) return found;
  const double was = before->lr_schedule.lr(done), is = now.lr_schedule.lr(done);
  const auto jumps = [&](double rate) { return std::abs(rate - was) > kJump * std::max(rate, was); };
  LrSchedule old_horizon = now.lr_schedule;
  old_horizon.horizon = before->lr_schedule.horizon;
  const bool horizon_alone = before->lr_schedule.horizon != horizon && old_horizon.warmup <= old_horizon.horizon &&
                             old_horizon.decay <= old_horizon.horizon && !jumps(old_horizon.lr(done));
  if (jumps(is))
    found.push_back(
        join("the learning rate jumps at step ", done + 1, ": it was to be ", rate_text(was), " and is ", rate_text(is),
             now.steps > before->steps && horizon == now.steps
                 ? join(", since the schedule now goes over all ", horizon, " steps")
             : horizon_alone
                 ? join(" now that optim.schedule_steps is ", horizon, " instead of ", before->lr_schedule.horizon,
                        "; --optim.schedule_steps ", before->lr_schedule.horizon, " keeps the old rate")
                 : std::string(" with the keys that were given; leave them out to keep the old rate")));
  return found;
}

}  // namespace slipway
