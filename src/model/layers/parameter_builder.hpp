// Declares the parameters of one layer, sharded over tensor ranks.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "src/model/layers/linear.hpp"
#include "src/model/parameters.hpp"
#include "src/model/tensor_parallel_shard.hpp"

namespace slipway {

/// Rows or columns of a matrix that tensor ranks divide: `unit` of them belong together, as those of a head do.
struct ShardedAxis {
  ShardRange range;
  int unit = 1;
  bool replicated = false;

  int total() const { return range.total * unit; }
};

/// Which linear layers of a model have a low-rank addend, and of which rank.
struct LowRankOptions {
  int rank = 0;                                           ///< 0: none
  float scale = 1;                                        ///< LoRA's alpha / rank
  std::function<bool(const std::string& weight)> chosen;  ///< by the weight's canonical name; null: all of them
};

/// Names begin with `prefix`; `component` is what counts of parameters call them.
class ParameterBuilder {
 public:
  ParameterBuilder(Parameters& parameters, std::string prefix, const char* component)
      : parameters_(parameters), prefix_(std::move(prefix)), component_(component) {}

  /// A norm's gain, or bias, of `width` elements.
  Parameters::Handle gain(const std::string& name, int width) { return vector(name, "norm", width, Init::kOnes); }
  Parameters::Handle norm_bias(const std::string& name, int width) { return vector(name, "norm", width, Init::kZeros); }
  /// A bias that every rank has as a whole, or has its part of.
  Parameters::Handle bias(const std::string& name, int width) { return vector(name, component_, width, Init::kZeros); }
  Parameters::Handle bias(const std::string& name, const ShardedAxis& outputs);

  /// Weights [outputs, inputs] whose rows are sharded.
  Parameters::Handle by_rows(const std::string& name, const ShardedAxis& outputs, int inputs);
  /// Weights [outputs, inputs] whose columns are sharded; `scale` multiplies their first values.
  Parameters::Handle by_cols(const std::string& name, int outputs, const ShardedAxis& inputs, float scale);
  /// Gives `layer` the addend that `options` choose for it: `<weight>.lora_a`, which begins random, and
  /// `<weight>.lora_b`, which begins as 0. After the weights of all layers with the same input, which stay adjacent.
  void add_low_rank(Linear& layer, const LowRankOptions& options);

 private:
  Parameters::Handle vector(const std::string& name, const char* component, int width, Init init);

  Parameters& parameters_;
  std::string prefix_;
  const char* component_;
};

/// How much smaller the weights begin that add to the residual stream: it sums 2 * layers of them.
float residual_init_scale(int layers);

}  // namespace slipway
