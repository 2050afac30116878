#include "src/model/layers/state.hpp"

#include <utility>

namespace slipway {

ModelState ModelState::fork() const {
  std::vector<std::unique_ptr<LayerState>> layers;
  for (const std::unique_ptr<LayerState>& layer : layers_) layers.push_back(layer == nullptr ? nullptr : layer->fork());
  ModelState copy(std::move(layers), sequences_, capacity_);
  copy.length_ = length_;
  return copy;
}

}  // namespace slipway
