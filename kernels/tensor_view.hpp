// Views of matrices whose element type is known at run time: f32, or bf16 where a model computes in it.
#pragma once

#include <type_traits>

#include "src/core/dtype.hpp"
#include "src/core/tensor.hpp"

namespace slipway {

/// The base class of both views. `Void` is void or const void; `View` is the derived class, also the type of its parts.
template <class Void, class View>
struct TypedRows {
  Void* data = nullptr;
  int rows = 0;
  int cols = 0;
  std::int64_t stride = 0;
  DType dtype = DType::kF32;

  /// T, const where the view only reads.
  template <class T>
  using Element = std::conditional_t<std::is_const_v<Void>, const T, T>;

  SLIPWAY_HD std::int64_t size() const { return std::int64_t{rows} * cols; }
  /// Row r; the caller has checked `dtype`.
  template <class T>
  SLIPWAY_HD Element<T>* row(std::int64_t r) const {
    return static_cast<Element<T>*>(data) + r * stride;
  }
  template <class T>
  Matrix<Element<T>> as() const {
    require(dtype == kDTypeOf<T>, "TypedRows::as: the view has another element type");
    return {static_cast<Element<T>*>(data), rows, cols, stride};
  }
  View view_rows(int first, int count) const { return part(first * stride, count, cols); }
  View view_cols(int first, int count) const { return part(first, rows, count); }

 private:
  View part(std::int64_t offset, int row_count, int col_count) const {
    View view;
    view.data = static_cast<std::conditional_t<std::is_const_v<Void>, const char, char>*>(data) +
                offset * static_cast<std::int64_t>(bytes_of(dtype));
    view.rows = row_count, view.cols = col_count, view.stride = stride, view.dtype = dtype;
    return view;
  }
};

/// A matrix that an op writes, and may read.
struct TensorView : TypedRows<void, TensorView> {
  TensorView() = default;
  template <class T>
  TensorView(Matrix<T> m) : TypedRows{m.data, m.rows, m.cols, m.stride, kDTypeOf<T>} {}  // NOLINT: implicit
};

/// A matrix that an op only reads.
struct ConstTensorView : TypedRows<const void, ConstTensorView> {
  ConstTensorView() = default;
  template <class T>
  ConstTensorView(Matrix<T> m)  // NOLINT
      : TypedRows{m.data, m.rows, m.cols, m.stride, kDTypeOf<std::remove_const_t<T>>} {}
  ConstTensorView(const TensorView& a) : TypedRows{a.data, a.rows, a.cols, a.stride, a.dtype} {}  // NOLINT
};

/// A buffer for activations in the memory of the backend, initialized with zeros.
class TensorBuffer {
 public:
  TensorBuffer() = default;
  TensorBuffer(DType dtype, std::size_t count, MemorySpace& space = host_memory())
      : bytes_(count * bytes_of(dtype), space), dtype_(dtype) {}

  std::size_t size() const { return bytes_.size() / bytes_of(dtype_); }
  void copy_from(const TensorBuffer& other) {
    require(bytes_.size() == other.bytes_.size(), "TensorBuffer::copy_from: the sizes differ");
    if (bytes_.size() != 0) bytes_.space().copy(bytes_.data(), other.bytes_.data(), bytes_.size());
  }
  /// The buffer as a matrix of rows x cols elements, from its start, or from element `first` on.
  TensorView matrix(int rows, int cols) { return part(0, rows, cols); }
  TensorView part(std::size_t first, int rows, int cols) {
    require(first + static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols) <= size(),
            "TensorBuffer: the view is larger than the buffer");
    char* data = bytes_.data() + first * bytes_of(dtype_);
    if (dtype_ == DType::kBf16) return Matrix<Bf16>{reinterpret_cast<Bf16*>(data), rows, cols, cols};
    return Matrix<float>{reinterpret_cast<float*>(data), rows, cols, cols};
  }

 private:
  Buffer<char> bytes_;
  DType dtype_ = DType::kF32;
};

}  // namespace slipway
