// How formulas read and write the elements of a row, whatever type they are stored in.
#pragma once

#include <cstdint>
#include <type_traits>

#include "src/core/dtype.hpp"

namespace slipway {

/// A row that a formula writes and does not read.
template <class T>
struct WriteOnly {
  T* data;
};
template <class T>
SLIPWAY_HD WriteOnly<T> write_only(T* row) {
  return {row};
}

/// The type that a formula computes in for elements stored as T: f32 for bf16, T for all others.
template <class T>
using ComputeType = std::conditional_t<std::is_same_v<std::remove_const_t<T>, Bf16>, float, std::remove_const_t<T>>;

template <class T>
SLIPWAY_HD ComputeType<T> to_compute_type(const T& element) {
  if constexpr (std::is_same_v<T, Bf16>) return to_f32(element);
  else return element;
}
template <class T>
SLIPWAY_HD T to_storage_type(const ComputeType<T>& number) {
  if constexpr (std::is_same_v<T, Bf16>) return to_bf16(number);
  else return number;
}

/// How a row is accessed: `const T*` is read, `T*` is read and written, `WriteOnly<T>` is written.
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
  SLIPWAY_HD ElementRef(Row row, int i) : address_(Traits::data(row) + i) {
    if constexpr (Traits::kRead) value_ = to_compute_type<Element>(*address_);
  }
  SLIPWAY_HD ~ElementRef() {
    if constexpr (Traits::kWritten) *address_ = to_storage_type<Element>(value_);
  }
  ElementRef(const ElementRef&) = delete;
  ElementRef& operator=(const ElementRef&) = delete;
  SLIPWAY_HD ComputeType<Element>& element() { return value_; }

 private:
  decltype(Traits::data(Row{})) address_;
  ComputeType<Element> value_{};
};

/// `functor(i, values...)` where the formula takes the index, else `functor(values...)`.
template <class Functor, class... Values>
SLIPWAY_HD decltype(auto) apply_at(const Functor& functor, int i, Values&... values) {
  if constexpr (std::is_invocable_v<const Functor&, int, Values&...>) return functor(i, values...);
  else return functor(values...);
}

/// Two sums of one pass.
struct SumPair {
  float first = 0, second = 0;
};

/// The results of a sum over rows: one row of D elements, and a second one where two sums are formed in one pass.
struct RowTotals {
  float* first_D = nullptr;
  float* second_D = nullptr;  ///< null: not written
};

}  // namespace slipway
