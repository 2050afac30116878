// What a change of a run's length or schedule does to its learning rate, for people who meant something else.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "src/train/schedule.hpp"

namespace slipway {

/// A run's length and its schedule.
struct Course {
  std::int64_t steps = 0;
  Schedule rates;
};

/// One sentence, with the key that mends it, for each of: steps that train at the floor, an end before the floor is
/// reached, a rate that jumps at the step at which the run goes on.
///
/// `before` is the course of the checkpoint that the run goes on from after `done` steps; without one, the run begins.
/// `schedule_given`: the horizon was chosen for this length, and what is then far from its end is meant.
/// `rate_given`: a jump of the rate is meant.
std::vector<std::string> schedule_warnings(const std::optional<Course>& before, const Course& now, std::int64_t done,
                                           bool schedule_given, bool rate_given = false);

}  // namespace slipway
