// Rows as formulas see them: numbers, whatever their elements are stored as.
#pragma once

#include <cstdint>
#include <type_traits>

#include "src/core/dtype.hpp"

namespace slipway {

/// A row of which a formula reads nothing: what it held does not matter.
template <class T>
struct WriteOnly {
  T* data;
};
template <class T>
SLIPWAY_HD WriteOnly<T> written(T* row) {
  return {row};
}

/// What a formula sees of an element of type T: bf16 as f32, all others as they are.
template <class T>
using Number = std::conditional_t<std::is_same_v<std::remove_const_t<T>, Bf16>, float, std::remove_const_t<T>>;

template <class T>
SLIPWAY_HD Number<T> number_of(const T& element) {
  if constexpr (std::is_same_v<T, Bf16>) return to_f32(element);
  else return element;
}
template <class T>
SLIPWAY_HD T element_of(const Number<T>& number) {
  if constexpr (std::is_same_v<T, Bf16>) return to_bf16(number);
  else return number;
}

/// A kind of row: `const T*` is read, `T*` is read and written, `WriteOnly<T>` is written.
template <class Row>
struct RowTraits;
template <class T>
struct RowTraits<T*> {
  using Element = std::remove_const_t<T>;
  static constexpr bool kRead = true, kWritten = !std::is_const_v<T>;
  SLIPWAY_HD static T* data(T* row) { return row; }
};
template <class T>
struct RowTraits<WriteOnly<T>> {
  using Element = T;
  static constexpr bool kRead = false, kWritten = true;
  SLIPWAY_HD static T* data(WriteOnly<T> row) { return row.data; }
};

/// A proxy for one element of a row: loaded on construction, stored on destruction.
template <class Row>
class ElementRef {
  using Traits = RowTraits<Row>;
  using Element = typename Traits::Element;

 public:
  SLIPWAY_HD ElementRef(Row row, int i) : place_(Traits::data(row) + i) {
    if constexpr (Traits::kRead) number_ = number_of<Element>(*place_);
  }
  SLIPWAY_HD ~ElementRef() {
    if constexpr (Traits::kWritten) *place_ = element_of<Element>(number_);
  }
  ElementRef(const ElementRef&) = delete;
  ElementRef& operator=(const ElementRef&) = delete;
  SLIPWAY_HD Number<Element>& number() { return number_; }

 private:
  decltype(Traits::data(Row{})) place_;
  Number<Element> number_{};
};

/// `formula(numbers...)`, or with the index before them where the formula asks for it.
template <class Formula, class... Numbers>
SLIPWAY_HD decltype(auto) apply_at(const Formula& formula, int i, Numbers&... numbers) {
  if constexpr (std::is_invocable_v<const Formula&, int, Numbers&...>) return formula(i, numbers...);
  else return formula(numbers...);
}

/// Two sums of one pass.
struct SumPair {
  float first = 0, second = 0;
};

/// What rows are summed into: D elements, and where a formula sums two rows at once, D more.
struct RowTotals {
  float* first_D = nullptr;
  float* second_D = nullptr;  ///< null: not wanted
};

}  // namespace slipway
