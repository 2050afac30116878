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
  bool direct() const { return space_.is_host(); }
  /// Forgets the ranges so far. The memory of their copies is reused.
  void begin() { taken_.clear(); }
  /// The current contents of `there`; valid until begin(). `on_host`: the range is in host memory and written by ops.
  float* of(std::span<float> there, bool on_host = false) {
    if (direct() || there.empty()) return there.data();
    if (rooms_.size() == taken_.size()) rooms_.emplace_back();
    Buffer<float>& room = rooms_[taken_.size()];
    room.reserve(there.size(), space_.staging());
    taken_.push_back({there, on_host});
    if (on_host) {
      space_.synchronize();
      std::memcpy(room.data(), there.data(), there.size_bytes());
    } else {
      space_.read(room.data(), there.data(), there.size_bytes());
    }
    return room.data();
  }
  /// Writes the copies, which the host may have changed, back to their ranges.
  void write_back() {
    space_.synchronize();
    for (std::size_t i = 0; i < taken_.size(); ++i) {
      const auto& [there, on_host] = taken_[i];
      if (on_host) std::memcpy(there.data(), rooms_[i].data(), there.size_bytes());
      else space_.write(there.data(), rooms_[i].data(), there.size_bytes());
    }
    space_.synchronize();  // for the rooms
  }

 private:
  struct Range {
    std::span<float> there;
    bool on_host = false;
  };
  MemorySpace& space_;
  std::vector<Range> taken_;
  std::vector<Buffer<float>> rooms_;  // copy i is of taken_[i]; more than taken_ where begin() left some unused
};

}  // namespace slipway
