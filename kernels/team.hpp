// A team is the lanes that share a row. A body says what is summed and what is written; the team says by whom.
#pragma once

#include <concepts>

#include "src/core/host_device.hpp"

namespace slipway {

/// What a body may ask of its lanes. `sum` and `max` give every lane the result; their order is fixed by the team.
template <class T>
concept Team = requires(const T& team, int count, float (*value)(int), void (*act)(int)) {
  { team.sum(count, value) } -> std::convertible_to<float>;
  { team.max(count, value) } -> std::convertible_to<float>;
  team.each(count, act);
};

/// One CPU thread, whose lanes are the lanes of its vector unit.
struct SerialTeam {
  template <class Value>
  float sum(int count, Value&& value) const {
    float total = 0.0f;
#pragma omp simd reduction(+ : total)
    for (int i = 0; i < count; ++i) total += value(i);
    return total;
  }
  template <class Value>
  float max(int count, Value&& value) const {
    float best = -__builtin_inff();
#pragma omp simd reduction(max : best)
    for (int i = 0; i < count; ++i) best = value(i) > best ? value(i) : best;
    return best;
  }
  template <class Act>
  void each(int count, Act&& act) const {
#pragma omp simd
    for (int i = 0; i < count; ++i) act(i);
  }
};

}  // namespace slipway
