// Declares the parameters of one layer, sharded over tensor ranks.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "src/model/layers/linear.hpp"
#include "src/model/parameters.hpp"
#include "src/model/tensor_parallel_shard.hpp"

namespace slipway {

/// Rows or columns of a matrix that are sharded over tensor ranks in units of `unit`, such as the rows of a head.
struct ShardedAxis {
  ShardRange range;
  int unit = 1;
  bool replicated = false;

  int total() const { return range.total * unit; }
};

/// Which linear layers of a model have LoRA weights, and of which rank.
struct LoraOptions {
  int rank = 0;                                              ///< 0: none
  float scale = 1;                                           ///< LoRA's alpha / rank
  std::function<bool(const std::string& weight)> is_target;  ///< by the weight's canonical name; null: all of them
};

/// Names begin with `prefix`; parameters are counted under `component`.
class ParameterBuilder {
 public:
  ParameterBuilder(Parameters& parameters, std::string prefix, const char* component)
      : parameters_(parameters), prefix_(std::move(prefix)), component_(component) {}

  /// A norm's gain, or bias, of `width` elements.
  Parameters::Handle gain(const std::string& name, int width) { return vector(name, "norm", width, Init::kOnes); }
  Parameters::Handle norm_bias(const std::string& name, int width) { return vector(name, "norm", width, Init::kZeros); }
  /// A bias that is replicated on every rank, or sharded.
  Parameters::Handle bias(const std::string& name, int width) { return vector(name, component_, width, Init::kZeros); }
  Parameters::Handle bias(const std::string& name, const ShardedAxis& outputs);

  /// Weights [outputs, inputs] whose rows are sharded.
  Parameters::Handle column_parallel(const std::string& name, const ShardedAxis& outputs, int inputs);
  /// Weights [outputs, inputs] whose columns are sharded; `scale` multiplies their initial values.
  Parameters::Handle row_parallel(const std::string& name, int outputs, const ShardedAxis& inputs, float scale);
  /// Adds the LoRA weights that `options` select for `layer`: `<weight>.lora_a`, initialized randomly, and
  /// `<weight>.lora_b`, initialized to 0. Call it after declaring the weights of all layers with the same input, so
  /// that those stay adjacent.
  void add_lora(Linear& layer, const LoraOptions& options);

 private:
  Parameters::Handle vector(const std::string& name, const char* component, int width, Init init);

  Parameters& parameters_;
  std::string prefix_;
  const char* component_;
};

/// Scale of the initial values of weights that add to the residual stream, which sums the outputs of 2 * layers layers.
float residual_init_scale(int layers);

}  // namespace slipway
