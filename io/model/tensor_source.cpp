#include "io/model/tensor_source.hpp"

#include "src/core/error.hpp"

namespace slipway {

void TensorSource::read_stored(const std::string& name, std::span<std::byte>) const {
  throw Error(Fault::kBug, join("TensorSource::read_stored: ", name, " has no other form than f32"));
}

}  // namespace slipway
