// Host copies of device memory, for reading and writing files.
#pragma once

#include <cstring>
#include <span>
#include <vector>

#include "src/core/tensor.hpp"

namespace slipway {

/// Host-accessible views of device memory: the ranges themselves where they are in host memory, else copies.
class HostMirror {
 public:
  explicit HostMirror(MemorySpace& space) : space_(space) {}

  /// Whether there are no copies: the host then sees later changes of the memory.
  bool is_zero_copy() const { return space_.is_host(); }
  /// Forgets the ranges so far. The memory of their copies is reused.
  void reset() { ranges_.clear(); }
  /// The current contents of `device_values`; valid until reset(). `on_host`: the range is in host memory and written
  /// by ops.
  float* host_view(std::span<float> device_values, bool on_host = false) {
    if (is_zero_copy() || device_values.empty()) return device_values.data();
    if (buffers_.size() == ranges_.size()) buffers_.emplace_back();
    Buffer<float>& buffer = buffers_[ranges_.size()];
    buffer.reserve(device_values.size(), space_.staging());
    ranges_.push_back({device_values, on_host});
    if (on_host) {
      space_.synchronize();
      std::memcpy(buffer.data(), device_values.data(), device_values.size_bytes());
    } else {
      space_.read(buffer.data(), device_values.data(), device_values.size_bytes());
    }
    return buffer.data();
  }
  /// Writes the copies, which the host may have changed, back to their ranges.
  void write_back() {
    space_.synchronize();
    for (std::size_t i = 0; i < ranges_.size(); ++i) {
      const auto& [device_values, on_host] = ranges_[i];
      if (on_host) std::memcpy(device_values.data(), buffers_[i].data(), device_values.size_bytes());
      else space_.write(device_values.data(), buffers_[i].data(), device_values.size_bytes());
    }
    space_.synchronize();  // for the buffers
  }

 private:
  struct Range {
    std::span<float> device_values;
    bool on_host = false;
  };
  MemorySpace& space_;
  std::vector<Range> ranges_;
  std::vector<Buffer<float>> buffers_;  // copy i is of ranges_[i]; more than ranges_ where reset() left some unused
};

}  // namespace slipway
