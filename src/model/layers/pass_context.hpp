// What all layers of one pass share.
#pragma once

#include <cstdint>

#include "comm/group.hpp"
#include "kernels/backend/backend.hpp"
#include "src/model/layers/linear.hpp"
#include "src/model/layers/scratch.hpp"
#include "src/model/layers/state.hpp"
#include "src/model/parameters.hpp"
#include "src/model/sequence_parallel.hpp"

namespace slipway {

// Axes: R rows (sequences * tokens), U of them local to this rank (SequenceParallel), D model width, K head width; of
// this rank's shard: H query heads, G key-value heads, F feed-forward width. P positions, J pairs of a head (RoPE), C
// concatenated columns, I inputs and O outputs of a linear layer, V vocabulary.

/// Backend, parameters and scratch memory, and the rows of the pass with their positions.
struct PassContext {
  const Backend& backend;
  Stream& stream;
  LinearOps linear;
  Parameters& parameters;
  Group& tensor;
  SequenceParallel rows;
  Scratch& scratch;
  Matrix<const float> cos_PJ, sin_PJ;  ///< of RoPE
  AttentionShape attention;            ///< sequences, tokens and document starts; a layer adds its heads
  const int* position_R = nullptr;
  const std::uint8_t* document_start_R =
      nullptr;                      ///< 1 where a document starts, and recurrent state with it; null: nowhere
  InferenceState* state = nullptr;  ///< kept from pass to pass; null in training, where a pass sees its own rows only
};

}  // namespace slipway
