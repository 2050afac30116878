#include "src/model/layers/parameter_builder.hpp"

#include <cmath>

namespace slipway {
namespace {

/// Standard deviation of a matrix's initial values: slightly below the one that preserves the variance of its input
/// (docs/numerics.md).
float init_std_of(int inputs) { return 0.8f / std::sqrt(static_cast<float>(inputs)); }

}  // namespace

float residual_init_scale(int layers) { return 1.0f / std::sqrt(2.0f * static_cast<float>(layers)); }

Parameters::Handle ParameterBuilder::vector(const std::string& name, const char* component, int width, Init init) {
  return parameters_.add({.name = prefix_ + name,
                          .component = component,
                          .vector = true,
                          .rows = 1,
                          .cols = width,
                          .local_rows = 1,
                          .local_cols = width,
                          .init = init});
}

Parameters::Handle ParameterBuilder::bias(const std::string& name, const ShardedAxis& outputs) {
  return parameters_.add({.name = prefix_ + name,
                          .component = component_,
                          .vector = true,
                          .rows = 1,
                          .cols = outputs.total(),
                          .shard = outputs.replicated ? ShardAxis::kReplicated : ShardAxis::kCols,
                          .first = outputs.range.first * outputs.unit,
                          .count = outputs.range.count * outputs.unit,
                          .local_rows = 1,
                          .local_cols = outputs.range.padded_size * outputs.unit,
                          .init = Init::kZeros});
}

Parameters::Handle ParameterBuilder::column_parallel(const std::string& name, const ShardedAxis& outputs, int inputs) {
  return parameters_.add({.name = prefix_ + name,
                          .component = component_,
                          .rows = outputs.total(),
                          .cols = inputs,
                          .shard = outputs.replicated ? ShardAxis::kReplicated : ShardAxis::kRows,
                          .first = outputs.range.first * outputs.unit,
                          .count = outputs.range.count * outputs.unit,
                          .local_rows = outputs.range.padded_size * outputs.unit,
                          .local_cols = inputs,
                          .group = kMatrices,
                          .init_std = init_std_of(inputs)});
}

Parameters::Handle ParameterBuilder::row_parallel(const std::string& name, int outputs, const ShardedAxis& inputs,
                                                  float scale) {
  return parameters_.add({.name = prefix_ + name,
                          .component = component_,
                          .rows = outputs,
                          .cols = inputs.total(),
                          .shard = ShardAxis::kCols,
                          .first = inputs.range.first * inputs.unit,
                          .count = inputs.range.count * inputs.unit,
                          .local_rows = outputs,
                          .local_cols = inputs.range.padded_size * inputs.unit,
                          .group = kMatrices,
                          .init_std = scale * init_std_of(inputs.total())});
}

void ParameterBuilder::add_lora(Linear& layer, const LoraOptions& options) {
  const Parameter weight = parameters_.at(layer.weight);
  if (options.rank == 0 || (options.is_target && !options.is_target(weight.name))) return;
  Parameter a{.name = weight.name + ".lora_a",
              .component = component_,
              .rows = options.rank,
              .cols = weight.cols,
              .local_rows = options.rank,
              .local_cols = weight.local_cols,
              .may_stay_quantized = false,
              .group = kMatrices,
              .init_std = init_std_of(weight.cols)};
  Parameter b{.name = weight.name + ".lora_b",
              .component = component_,
              .rows = weight.rows,
              .cols = options.rank,
              .local_rows = weight.local_rows,
              .local_cols = options.rank,
              .may_stay_quantized = false,
              .group = kMatrices,
              .init = Init::kZeros};
  if (weight.shard != ShardAxis::kReplicated) {
    Parameter& sharded = weight.shard == ShardAxis::kCols ? a : b;
    sharded.shard = weight.shard, sharded.first = weight.first, sharded.count = weight.count;
  }
  layer.lora = {parameters_.add(std::move(a)), parameters_.add(std::move(b)), options.rank, options.scale};
}

}  // namespace slipway
