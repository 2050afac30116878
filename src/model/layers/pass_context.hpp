// What all layers of one pass share.
#pragma once

#include "comm/group.hpp"
#include "kernels/backend/backend.hpp"
#include "src/model/layers/linear.hpp"
#include "src/model/layers/scratch.hpp"
#include "src/model/layers/state.hpp"
#include "src/model/parameters.hpp"
#include "src/model/sequence_parallel.hpp"

namespace slipway {

// Axes: R rows (sequences * tokens), U of them local to this rank (SequenceParallel), D model width, H query heads
// here, G key-value heads here, K head width, F feed-forward width here.

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
  AttentionShape attention;            ///< sequences, tokens and document starts; a layer fills in its heads
  const int* position_R = nullptr;
  ModelState* state = nullptr;  ///< carried from pass to pass; null in training: a pass sees its own rows only
};

}  // namespace slipway
