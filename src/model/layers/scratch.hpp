// Scratch memory of layers: named buffers that all layers share.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/tensor_view.hpp"

namespace slipway {

/// Buffers whose contents do not outlive one layer's forward or backward pass. Layers that reserve the same name share
/// its memory.
class Scratch {
 public:
  explicit Scratch(MemorySpace& space) : space_(space) {}

  /// Makes the buffer `name` at least `elements` long. Call it before the first pass: passes do not allocate.
  void reserve(std::string_view name, DType dtype, std::size_t elements) {
    TensorBuffer& buffer = buffers_[std::string(name)];
    if (buffer.size() < elements) buffer = TensorBuffer(dtype, elements, space_);
  }
  bool has(std::string_view name) const { return buffers_.contains(name); }
  /// The front of the buffer as a matrix. Errors: Fault::kBug for a name that was not reserved.
  TensorView matrix(std::string_view name, int rows, int cols) {
    const auto found = buffers_.find(name);
    require(found != buffers_.end(), "Scratch: a buffer was not reserved");
    return found->second.matrix(rows, cols);
  }

 private:
  MemorySpace& space_;
  std::map<std::string, TensorBuffer, std::less<>> buffers_;
};

}  // namespace slipway
