#include "src/model/model_layers.hpp"

#include <cmath>
#include <string>
#include <utility>

namespace slipway {
namespace {

/// Standard deviation of the embedding's initial values: the largest round one with which the first loss stays within
/// 0.5 nats of ln V (a tied head multiplies with each token's own row again). With GPT-2's 0.02 narrow models learned a
/// third slower (docs/numerics.md).
float embedding_init_std(int width) { return 0.8f / std::sqrt(static_cast<float>(width)); }

Parameter vocab_matrix(const std::string& name, const std::string& component, const ModelSpec& model,
                       const TensorParallelShard& shard) {
  return {.name = name,
          .component = component,
          .rows = model.vocabulary,
          .cols = model.width,
          .shard = ShardAxis::kRows,
          .first = shard.vocabulary.first,
          .count = shard.vocabulary.count,
          .local_rows = shard.vocabulary.padded_size,
          .local_cols = model.width,
          .group = kMatrices,
          .init_std = embedding_init_std(model.width)};
}

}  // namespace

ModelLayers::ModelLayers(const ModelSpec& model, const TensorParallelShard& shard, Parameters& parameters,
                         const LoraOptions& lora) {
  Parameter token_embedding = vocab_matrix("token_embd.weight", "embedding", model, shard);
  token_embedding.keep_f32 = true;
  embedding = parameters.add(std::move(token_embedding));
  if (model.learned_positions)
    positions = parameters.add({.name = "position_embd.weight",
                                .component = "embedding",
                                .rows = model.context,
                                .cols = model.width,
                                .local_rows = model.context,
                                .local_cols = model.width,
                                .keep_f32 = true,
                                .may_stay_quantized = false,
                                .group = kMatrices,
                                .init_std = embedding_init_std(model.width)});
  const std::vector<BlockKind> kinds = model.block_kinds();
  for (int layer = 0; layer < model.layers; ++layer)
    blocks.emplace_back(model, kinds[static_cast<std::size_t>(layer)], shard, layer, parameters, lora);
  final_norm = declare_norm(model, "output_norm", parameters);
  head = model.tied ? embedding : parameters.add(vocab_matrix("output.weight", "head", model, shard));
}

}  // namespace slipway
