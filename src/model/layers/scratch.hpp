// Scratch memory of layers: buffers by name, which all layers use in turn.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/tensor_view.hpp"

namespace slipway {

/// Buffers that hold nothing from one layer to the next. Layers that reserve the same name share the memory.
class Scratch {
 public:
  explicit Scratch(MemorySpace& space) : space_(space) {}

  /// At least so many elements under `name`. Before the first pass: passes allocate nothing.
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
