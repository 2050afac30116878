// Views and owners of array memory: Matrix borrows, Buffer owns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "src/core/error.hpp"
#include "src/core/host_device.hpp"
#include "src/core/memory_space.hpp"

namespace slipway {

/// A borrowed matrix. Row r starts `stride` elements after row r - 1.
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

/// Memory for `count` elements of a space, zeroed when made; on the host on a 64-byte boundary, that of a cache line
/// and of the widest vector. Elements may be looked at where the space is the host's.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t count, MemorySpace& space = host_memory()) : space_(&space), size_(count) {
    if (count != 0) data_ = static_cast<T*>(space.allocate(count * sizeof(T)));
  }
  ~Buffer() {
    if (data_ != nullptr) space_->deallocate(data_);
  }
  Buffer(Buffer&& other) noexcept
      : space_(other.space_), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(space_, other.space_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  MemorySpace& space() const { return *space_; }
  std::span<T> span() { return {data_, size_}; }
  std::span<const T> span() const { return {data_, size_}; }
  T& operator[](std::size_t i) { return data_[i]; }
  const T& operator[](std::size_t i) const { return data_[i]; }
  void zero() {
    if (size_ != 0) space_->zero(data_, size_ * sizeof(T));
  }
  /// Makes buffer for at least `count` elements. A smaller buffer is reallocated, and its contents are lost.
  void reserve(std::size_t count) { reserve(count, *space_); }
  void reserve(std::size_t count, MemorySpace& space) {
    if (size_ < count) *this = Buffer(count, space);
  }

  /// The first rows * cols elements of the buffer as a matrix.
  Matrix<T> matrix(int rows, int cols) {
    require(static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols) <= size_,
            "Buffer::matrix: the view is larger than the buffer");
    return {data_, rows, cols, cols};
  }

 private:
  MemorySpace* space_ = &host_memory();
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

/// The elements of `host` in `space`: the buffer itself where `space` is the host's.
template <class T>
Buffer<T> to_device(MemorySpace& space, Buffer<T> host) {
  if (space.is_host()) return host;
  Buffer<T> device_buffer(host.size(), space);
  if (host.size() != 0) space.write(device_buffer.data(), host.data(), host.size() * sizeof(T));
  return device_buffer;
}

/// A host array as ops can read it: in place, or a copy in device memory whose address stays the same while its size
/// does not grow. Copies are asynchronous: they overlap with the ops on the previous values.
template <class T>
class StagedUpload {
 public:
  /// Ops queued from now on no longer read the previous values.
  const T* upload(std::span<const T> host, MemorySpace& space) {
    if (space.is_host() || host.empty()) return host.data();
    StagingPair& pair = pairs_[next_];
    next_ = 1 - next_;
    space.wait_event(pair.copied);
    if (pair.device.size() < host.size()) {
      pair.staged.reserve(host.size(), space.staging());
      pair.device.reserve(host.size(), space), device_.reserve(host.size(), space);
    }
    std::memcpy(pair.staged.data(), host.data(), host.size_bytes());
    pair.copied = space.copy_to_device_async(pair.device.data(), pair.staged.data(), host.size_bytes(), pair.consumed);
    space.copy(device_.data(), pair.device.data(), host.size_bytes());
    pair.consumed = space.record_event();
    return device_.data();
  }

 private:
  struct StagingPair {
    Buffer<T> staged, device;
    MemorySpace::Event copied = 0, consumed = 0;
  };
  StagingPair pairs_[2];
  int next_ = 0;
  Buffer<T> device_;
};

/// A buffer that ops write and the host reads.
template <class T>
class StagedDownload {
 public:
  /// In `host` itself where that can be.
  T* buffer_for(std::span<T> host, MemorySpace& space) {
    host_ = host;
    if (space.is_host() || host.empty()) return host.data();
    device_.reserve(host.size(), space);
    return device_.data();
  }
  /// When this returns, `host` holds what the ops have written.
  void finish() {
    if (device_.size() != 0 && !host_.empty())  // of another space than the host's: else it has no buffer
      device_.space().read(host_.data(), device_.data(), host_.size() * sizeof(T));
  }

 private:
  std::span<T> host_;
  Buffer<T> device_;
};

}  // namespace slipway
