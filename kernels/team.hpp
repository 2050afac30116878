// A team is the lanes that compute a row together. A formula defines the computation on one column; the team decides
// which lane computes it, and how the rows are loaded and stored.
#pragma once

#include <concepts>

#include "kernels/row.hpp"
#include "src/core/host_device.hpp"

namespace slipway {

/// The operations of a team. `for_each(count, functor, rows...)` calls the functor for `count` columns, with the
/// elements of `rows` as its arguments, in order (kernels/row.hpp). `sum` and `max` reduce what the functor returns, in
/// an order fixed by the team, and give every lane the result. A column is read before it is written, so an output row
/// may be an input row. A functor may take the column's index as its first argument.
template <class T>
concept Team = requires(const T& team, int count, const float* x, float* y, float (*value)(float), void (*fn)(float&)) {
  { team.sum(count, value, x) } -> std::convertible_to<float>;
  { team.max(count, value, x) } -> std::convertible_to<float>;
  team.for_each(count, fn, y);
};

/// One CPU thread, whose lanes are the lanes of its vector unit.
struct SerialTeam {
  template <class Functor, class... Rows>
  auto sum(int count, Functor&& functor, Rows... rows) const {
    using Sum = decltype(at(functor, 0, rows...));
    if constexpr (std::is_same_v<Sum, SumPair>) {
      float first = 0.0f, second = 0.0f;
#pragma omp simd reduction(+ : first, second)
      for (int i = 0; i < count; ++i) {
        const SumPair both = at(functor, i, rows...);
        first += both.first, second += both.second;
      }
      return SumPair{first, second};
    } else {
      Sum total = 0;
#pragma omp simd reduction(+ : total)
      for (int i = 0; i < count; ++i) total += at(functor, i, rows...);
      return total;
    }
  }
  template <class Functor, class... Rows>
  float max(int count, Functor&& functor, Rows... rows) const {
    float best = -__builtin_inff();
#pragma omp simd reduction(max : best)
    for (int i = 0; i < count; ++i) {
      const float value = at(functor, i, rows...);
      best = value > best ? value : best;
    }
    return best;
  }
  template <class Functor, class... Rows>
  void for_each(int count, Functor&& functor, Rows... rows) const {
#pragma omp simd
    for (int i = 0; i < count; ++i) at(functor, i, rows...);
  }

 private:
  template <class Functor, class... Rows>
  static auto at(const Functor& functor, int i, Rows... rows) {
    return apply_at(functor, i, ElementRef<Rows>(rows, i).element()...);
  }
};

}  // namespace slipway
