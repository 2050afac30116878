// The layers of a whole model, constructed from its spec.
#pragma once

#include <vector>

#include "src/model/layers/block.hpp"

namespace slipway {

/// Declares the parameters of a model in the order in which files keep them: embedding, positions, blocks, last norm,
/// head.
struct ModelLayers {
  ModelLayers(const ModelSpec& model, const TensorParallelShard& shard, Parameters& parameters,
              const LoraOptions& lora = {});

  Parameters::Handle embedding = -1;
  Parameters::Handle positions = -1;  ///< learned position embedding; -1: none
  std::vector<Block> blocks;
  Norm final_norm;
  Parameters::Handle head = -1;  ///< the embedding where they are tied
};

}  // namespace slipway
