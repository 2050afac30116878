#include "src/model/state.hpp"

#include <algorithm>

#include "src/core/allocation_tag.hpp"

namespace slipway {

ModelState::ModelState(int layers, int sequences, int capacity, int kv_width, DType compute, MemorySpace& space)
    : sequences_(sequences), capacity_(capacity), kv_width_(kv_width), compute_(compute), space_(&space) {
  const AllocationTag taken("the keys and values of", std::int64_t{sequences} * capacity, "tokens");
  const std::size_t elements =
      static_cast<std::size_t>(sequences) * static_cast<std::size_t>(capacity) * static_cast<std::size_t>(kv_width);
  for (int layer = 0; layer < layers; ++layer)
    layers_.push_back({{compute, elements, space}, {compute, elements, space}});
}

ModelState ModelState::fork() const {
  ModelState copy(static_cast<int>(layers_.size()), sequences_, capacity_, kv_width_, compute_, *space_);
  copy.length_ = length_;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    copy.layers_[i].k_SGK.copy_from(layers_[i].k_SGK);
    copy.layers_[i].v_SGK.copy_from(layers_[i].v_SGK);
  }
  return copy;
}

}  // namespace slipway
