// What lies in a device's memory, for files to be written from and read into.
#pragma once

#include <span>
#include <vector>

#include "src/core/tensor.hpp"

namespace slipway {

/// Ranges of numbers where the host can work on them: the ranges themselves where they lie in its memory, else copies.
class HostCopies {
 public:
  explicit HostCopies(MemorySpace& space) : space_(space) {}

  /// Whether there are no copies: what changes the numbers then changes what the host sees.
  bool direct() const { return space_.is_host(); }
  /// Forgets the ranges so far. The room of their copies is kept for the next.
  void begin() { taken_.clear(); }
  /// The numbers of `there`, as they are now; valid until begin().
  float* of(std::span<float> there) {
    if (direct() || there.empty()) return there.data();
    if (rooms_.size() == taken_.size()) rooms_.emplace_back();
    Buffer<float>& room = rooms_[taken_.size()];
    room.fit(there.size(), space_.staging());
    taken_.push_back(there);
    space_.read(room.data(), there.data(), there.size_bytes());
    return room.data();
  }
  /// What the host has changed in copies becomes the ranges' own.
  void write_back() {
    for (std::size_t i = 0; i < taken_.size(); ++i)
      space_.write(taken_[i].data(), rooms_[i].data(), taken_[i].size_bytes());
    space_.wait();  // for the rooms
  }

 private:
  MemorySpace& space_;
  std::vector<std::span<float>> taken_;
  std::vector<Buffer<float>> rooms_;  // of the first of taken_, and of more
};

}  // namespace slipway
