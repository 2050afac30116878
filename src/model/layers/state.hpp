// What a model carries from token to token, layer by layer: keys and values of attention.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/tensor_view.hpp"

namespace slipway {

/// The state of one layer for several sequences. Copies are made by fork() alone.
class LayerState {
 public:
  LayerState() = default;
  virtual ~LayerState() = default;
  LayerState(const LayerState&) = delete;
  LayerState& operator=(const LayerState&) = delete;

  virtual std::unique_ptr<LayerState> fork() const = 0;
  /// Sequence `to` becomes a copy of sequence `from` of `other`, which is of the same layer.
  virtual void copy_sequence(int to, const LayerState& other, int from) = 0;
  /// The memory that is the state: what saving it takes, and restoring.
  virtual std::vector<TensorBuffer*> buffers() = 0;
};

/// The state of all layers for B sequences that have seen `length` tokens each.
class ModelState {
 public:
  /// `layers` has null where a layer keeps nothing.
  ModelState(std::vector<std::unique_ptr<LayerState>> layers, int sequences, int capacity)
      : layers_(std::move(layers)), sequences_(sequences), capacity_(capacity) {}

  int sequences() const { return sequences_; }
  int capacity() const { return capacity_; }
  int length() const { return length_; }
  void advance(int tokens) { length_ += tokens; }
  void rewind(int length) { length_ = length; }  ///< forgets what came after; 0 starts over
  LayerState* layer(int index) { return layers_[static_cast<std::size_t>(index)].get(); }
  ModelState fork() const;  ///< an independent copy: two continuations of one prompt

 private:
  std::vector<std::unique_ptr<LayerState>> layers_;
  int sequences_, capacity_, length_ = 0;
};

}  // namespace slipway
