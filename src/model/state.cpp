#include "src/model/state.hpp"

#include <algorithm>

namespace slipway {

ModelState::ModelState(int layers, int sequences, int capacity, int kv_width)
    : sequences_(sequences), capacity_(capacity), kv_width_(kv_width) {
  const std::size_t elements =
      static_cast<std::size_t>(sequences) * static_cast<std::size_t>(capacity) * static_cast<std::size_t>(kv_width);
  for (int layer = 0; layer < layers; ++layer) layers_.push_back({Buffer<float>(elements), Buffer<float>(elements)});
}

ModelState ModelState::fork() const {
  ModelState copy(static_cast<int>(layers_.size()), sequences_, capacity_, kv_width_);
  copy.length_ = length_;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    std::copy_n(layers_[i].k_SGK.data(), layers_[i].k_SGK.size(), copy.layers_[i].k_SGK.data());
    std::copy_n(layers_[i].v_SGK.data(), layers_[i].v_SGK.size(), copy.layers_[i].v_SGK.data());
  }
  return copy;
}

}  // namespace slipway
