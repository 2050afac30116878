// What a model carries from token to token, layer by layer: keys and values of attention.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/model/model_spec.hpp"
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
  /// The memory that is the state after `length` tokens, without what is free for more: contiguous matrices, sequence
  /// by sequence. What ModelState saves and restores.
  virtual std::vector<TensorView> contents(int length) = 0;
};

/// Whose state it is: a tensor rank's shard of a model.
struct ModelShard {
  ModelSpec spec;
  int tensor_rank = 0, tensor_ranks = 1;
};

/// The state of all layers for B sequences that have seen `length` tokens each.
class ModelState {
 public:
  /// `layers` has null where a layer keeps nothing; their memory is in `space`.
  ModelState(std::vector<std::unique_ptr<LayerState>> layers, ModelShard shard, int sequences, int capacity,
             MemorySpace& space)
      : layers_(std::move(layers)),
        shard_(std::move(shard)),
        sequences_(sequences),
        capacity_(capacity),
        space_(&space) {}

  int sequences() const { return sequences_; }
  int capacity() const { return capacity_; }
  int length() const { return length_; }
  void advance(int tokens) { length_ += tokens; }
  void rewind(int length) { length_ = length; }  ///< forgets what came after; 0 starts over
  LayerState* layer(int index) { return layers_[static_cast<std::size_t>(index)].get(); }
  ModelState fork() const;  ///< an independent copy: two continuations of one prompt

  /// The state as bytes (docs/formats/state.md), with contiguous matrices of the caller's in the same memory. Weights
  /// are not among them: the state goes on in a model with the same spec and the same weights.
  /// Ranks    local: every tensor rank saves its shard.
  std::string save(std::span<const TensorView> also = {}) const;
  /// Continues from what save() gave, whatever this state has seen; its capacity may be another one.
  /// Errors   Fault::kStorage when the bytes are damaged or cut off, or belong to another model, element type, number
  ///          of sequences or tensor rank, or do not fit into the capacity; this state is then as before.
  void restore(std::string_view bytes, std::span<const TensorView> also = {});

 private:
  std::vector<TensorView> contents(int length, std::span<const TensorView> also) const;

  std::vector<std::unique_ptr<LayerState>> layers_;
  ModelShard shard_;
  int sequences_, capacity_, length_ = 0;
  MemorySpace* space_;
};

}  // namespace slipway
