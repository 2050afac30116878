// Rows of numbers whose element type is known at run time: f32, or bf16 where a model computes in it.
#pragma once

#include "src/core/dtype.hpp"
#include "src/core/tensor.hpp"

namespace slipway {

/// Rows that an op writes (and may read): what a layer hands to the next one.
struct Activation {
  void* data = nullptr;
  int rows = 0;
  int cols = 0;
  std::int64_t stride = 0;
  DType dtype = DType::kF32;

  Activation() = default;
  template <class T>
  Activation(Matrix<T> m)  // NOLINT: a view forgets its type freely
      : data(m.data), rows(m.rows), cols(m.cols), stride(m.stride), dtype(kDTypeOf<T>) {}

  std::int64_t size() const { return std::int64_t{rows} * cols; }
  /// Row r, for whoever has looked at `dtype`.
  template <class T>
  T* row(std::int64_t r) const {
    return static_cast<T*>(data) + r * stride;
  }
  template <class T>
  Matrix<T> as() const {
    require(dtype == kDTypeOf<T>, "Activation: the element type is another one");
    return {static_cast<T*>(data), rows, cols, stride};
  }
  Activation view_rows(int first, int count) const { return part(first * stride, count, cols); }
  Activation view_cols(int first, int count) const { return part(first, rows, count); }

 private:
  Activation part(std::int64_t offset, int count_rows, int count_cols) const {
    Activation view = *this;
    view.data = static_cast<char*>(data) + offset * static_cast<std::int64_t>(bytes_of(dtype));
    view.rows = count_rows, view.cols = count_cols;
    return view;
  }
};

/// Rows that an op only reads.
struct Operand {
  const void* data = nullptr;
  int rows = 0;
  int cols = 0;
  std::int64_t stride = 0;
  DType dtype = DType::kF32;

  Operand() = default;
  template <class T>
  Operand(Matrix<T> m)  // NOLINT
      : data(m.data), rows(m.rows), cols(m.cols), stride(m.stride), dtype(kDTypeOf<std::remove_const_t<T>>) {}
  Operand(const Activation& a)
      : data(a.data), rows(a.rows), cols(a.cols), stride(a.stride), dtype(a.dtype) {}  // NOLINT

  std::int64_t size() const { return std::int64_t{rows} * cols; }
  template <class T>
  const T* row(std::int64_t r) const {
    return static_cast<const T*>(data) + r * stride;
  }
  template <class T>
  Matrix<const T> as() const {
    require(dtype == kDTypeOf<T>, "Operand: the element type is another one");
    return {static_cast<const T*>(data), rows, cols, stride};
  }
  Operand view_rows(int first, int count) const {
    Operand view = *this;
    view.data = static_cast<const char*>(data) + first * stride * static_cast<std::int64_t>(bytes_of(dtype));
    view.rows = count;
    return view;
  }
};

/// Memory for activations: zeroed when made.
class ActivationBuffer {
 public:
  ActivationBuffer() = default;
  ActivationBuffer(DType dtype, std::size_t count) : bytes_(count * bytes_of(dtype)), dtype_(dtype) {}

  std::size_t size() const { return bytes_.size() / bytes_of(dtype_); }
  void copy_from(const ActivationBuffer& other) {
    require(bytes_.size() == other.bytes_.size(), "ActivationBuffer::copy_from: the sizes differ");
    std::memcpy(bytes_.data(), other.bytes_.data(), bytes_.size());
  }
  /// The buffer as rows x cols numbers, from its start, or from element `first` on.
  Activation matrix(int rows, int cols) { return part(0, rows, cols); }
  Activation part(std::size_t first, int rows, int cols) {
    require(first + static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols) <= size(),
            "ActivationBuffer: the view is larger than the buffer");
    char* data = bytes_.data() + first * bytes_of(dtype_);
    if (dtype_ == DType::kBf16) return Matrix<Bf16>{reinterpret_cast<Bf16*>(data), rows, cols, cols};
    return Matrix<float>{reinterpret_cast<float*>(data), rows, cols, cols};
  }

 private:
  Buffer<char> bytes_;
  DType dtype_ = DType::kF32;
};

}  // namespace slipway
