// The state that a model keeps between tokens, layer by layer: keys and values of attention.
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

/// The state of one layer for several sequences. Only fork() copies it.
class LayerState {
 public:
  LayerState() = default;
  virtual ~LayerState() = default;
  LayerState(const LayerState&) = delete;
  LayerState& operator=(const LayerState&) = delete;

  virtual std::unique_ptr<LayerState> fork() const = 0;
  /// Sequence `to` becomes a copy of sequence `from` of `other`, which is of the same layer.
  virtual void copy_sequence(int to, const LayerState& other, int from) = 0;
  /// Drops the tokens after the first `length`; 0 starts over. A recurrent state has no way back to an earlier token:
  /// there, `length` must be 0.
  virtual void rewind(int length) = 0;
  /// The memory in use after `length` tokens, without free capacity: contiguous matrices, sequence by sequence, which
  /// InferenceState saves and restores.
  virtual std::vector<TensorView> contents(int length) = 0;
};

/// The states of a block's two layers; null for a layer without state.
struct BlockState {
  std::unique_ptr<LayerState> mixer, feed_forward;
};

/// The shard of a model, on one tensor rank, that a state belongs to.
struct ModelShard {
  ModelSpec spec;
  int tensor_rank = 0, tensor_parallel_size = 1;
};

/// The state of all blocks for B sequences that have seen `length` tokens each.
class InferenceState {
 public:
  /// The states' memory is in `space`.
  InferenceState(std::vector<BlockState> blocks, ModelShard shard, int sequences, int capacity, MemorySpace& space)
      : blocks_(std::move(blocks)),
        shard_(std::move(shard)),
        sequences_(sequences),
        capacity_(capacity),
        space_(&space) {}

  int sequences() const { return sequences_; }
  int capacity() const { return capacity_; }
  int length() const { return length_; }
  void advance(int tokens) { length_ += tokens; }
  void rewind(int length);  ///< LayerState::rewind() of every layer
  const BlockState& block(int index) const { return blocks_[static_cast<std::size_t>(index)]; }
  InferenceState fork() const;  ///< an independent copy, for another continuation of the same prompt

  /// The state as bytes (docs/formats/state.md), followed by the caller's contiguous matrices `extra`, which are in the
  /// same memory space. Weights are not saved: restore the state into a model with the same spec and the same weights.
  /// Ranks    local: every tensor rank saves its shard.
  std::string save(std::span<const TensorView> extra = {}) const;
  /// Replaces this state by the one that save() returned; the two capacities may differ.
  /// Errors   Fault::kStorage when the bytes are damaged or cut off, or belong to another model, element type, number
  ///          of sequences or tensor rank, or do not fit into the capacity; this state is then unchanged.
  void restore(std::string_view bytes, std::span<const TensorView> extra = {});

 private:
  std::vector<TensorView> contents(int length, std::span<const TensorView> extra) const;

  /// The layers that have a state, in the order of the blocks.
  std::vector<LayerState*> layers() const;

  std::vector<BlockState> blocks_;
  ModelShard shard_;
  int sequences_, capacity_, length_ = 0;
  MemorySpace* space_;
};

}  // namespace slipway
