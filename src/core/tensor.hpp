// Views and owners of numbers: Matrix borrows, Buffer owns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <span>
#include <utility>

#include "src/core/error.hpp"
#include "src/core/host_device.hpp"

namespace slipway {

/// Rows of numbers that somebody else owns. Row r starts `stride` elements after row r - 1.
template <class T>
struct Matrix {
  T* data = nullptr;
  int rows = 0;
  int cols = 0;
  std::int64_t stride = 0;  ///< elements from one row to the next, at least `cols`

  SLIPWAY_HD T* row(std::int64_t r) const { return data + r * stride; }
  SLIPWAY_HD bool contiguous() const { return stride == cols; }
  SLIPWAY_HD std::int64_t size() const { return std::int64_t{rows} * cols; }

  Matrix view_rows(int first, int count) const { return {row(first), count, cols, stride}; }
  Matrix view_cols(int first, int count) const { return {data + first, rows, count, stride}; }
  operator Matrix<const T>() const { return {data, rows, cols, stride}; }  // NOLINT: a view weakens freely
};

/// `bytes` at a multiple of `alignment`, to be freed by std::free; null when there is no memory. Large blocks ask the
/// system for huge pages: weights and activations are walked end to end, and small pages miss the TLB on the way.
void* aligned_block(std::size_t alignment, std::size_t bytes);

/// Writes zeros, a large block by several threads: where memory is fresh, the system clears each page before it is
/// written, and that takes six times as long as the writing.
void zero_block(void* block, std::size_t bytes);

/// Memory on a 64-byte boundary, zeroed when made: the alignment of a cache line and of the widest vector.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t count) : size_(count) {
    if (count == 0) return;
    const std::size_t bytes = (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    data_ = static_cast<T*>(aligned_block(kAlignment, bytes));
    if (data_ == nullptr)
      throw Error(Fault::kDevice,
                  join("out of memory: asked for ", bytes,
                       " bytes; lower train.micro_batch or train.sequence, or set train.recompute = on"));
    zero_block(data_, bytes);
  }
  ~Buffer() { std::free(data_); }
  Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::span<T> span() { return {data_, size_}; }
  std::span<const T> span() const { return {data_, size_}; }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }
  void zero() {
    if (size_ != 0) zero_block(data_, size_ * sizeof(T));
  }
  /// Room for `count` at least. Where it was smaller it is made anew, and what it held is gone.
  void fit(std::size_t count) {
    if (size_ < count) *this = Buffer(count);
  }

  /// The buffer as rows x cols numbers, from its start.
  Matrix<T> matrix(int rows, int cols) {
    require(static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols) <= size_,
            "Buffer::matrix: the view is larger than the buffer");
    return {data_, rows, cols, cols};
  }

 private:
  static constexpr std::size_t kAlignment = 64;
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace slipway
