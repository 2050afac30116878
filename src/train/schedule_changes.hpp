// Warnings about a run's length or schedule whose effect on the learning rate is probably not intended.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "src/optim/lr_schedule.hpp"

namespace slipway {

/// A run's length and its schedule.
struct RunSchedule {
  std::int64_t steps = 0;
  LrSchedule lr_schedule;
};

/// One sentence, naming the key that corrects it, for each of: steps that train at the minimum rate, a run that ends
/// before the minimum is reached, a rate that jumps at the step at which the run continues.
///
/// `previous` is the schedule of the checkpoint from which the run continues after `start_step` steps; absent for a new
/// run. `explicit_schedule`: the horizon was set explicitly for this length, so that an end far from it is intended.
/// `explicit_rate`: a jump of the rate is intended.
std::vector<std::string> schedule_warnings(const std::optional<RunSchedule>& previous, const RunSchedule& current,
                                           std::int64_t start_step, bool explicit_schedule, bool explicit_rate = false);

}  // namespace slipway
