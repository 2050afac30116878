// Tiny models with random weights, for tests that read or write models.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "io/model/model_spec.hpp"
#include "io/model/tensor_layout.hpp"
#include "io/model/tensor_source.hpp"
#include "src/core/random.hpp"
#include "src/model/model_tensors.hpp"

namespace slipway::test {

/// A spec with odd sizes: three heads per key-value head, and a head width other than width / heads, each where the
/// architecture allows it.
inline ModelSpec tiny_spec(const std::string& architecture, bool tied) {
  ModelSpec model{.architecture = architecture,
                  .layers = 2,
                  .width = 96,
                  .heads = 6,
                  .kv_heads = 2,
                  .head_width = 16,
                  .ffn = 160,
                  .vocabulary = 290,
                  .context = 128,
                  .rope_base = 50000.0,
                  .norm_eps = 1e-5,
                  .tied = tied,
                  .qkv_bias = architecture == "qwen2",
                  .qk_norm = architecture == "qwen3",
                  .name = "tiny " + architecture};
  if (architecture == "qwen3") model.head_width = 32;
  if (architecture == "gpt2") {
    model.kv_heads = model.heads, model.blocks = "attention+gelu", model.rope_base = ModelSpec().rope_base;
    model.qkv_bias = model.output_bias = model.ffn_bias = model.layer_norm = model.learned_positions = true;
  }
  model.provenance = {{"run", "test"}, {"steps", "7"}};
  return model;
}

/// tiny_spec() of a llama with RoPE scaling: of its eight pairs, llama3 leaves some unscaled, scales some fully, and
/// interpolates the others.
inline ModelSpec stretched_spec(const std::string& scaling) {
  ModelSpec model = tiny_spec("llama", false);
  model.rope_scaling = scaling, model.rope_factor = 4;
  if (scaling == "llama3") model.rope_low = 2, model.rope_high = 8, model.rope_original_context = 4096;
  return model;
}

/// Random values for every tensor of a spec: matrices with standard deviation `scale` / sqrt(cols), gains around 1.
class RandomWeights : public TensorSource {
 public:
  RandomWeights(const ModelSpec& model, std::uint64_t seed, float scale = 1.5f) : tensors_(tensors_of(model)) {
    for (const TensorInfo& tensor : tensors_) {
      const Random random(seed, stream_of(tensor.name.c_str()));
      std::vector<float>& values = values_[tensor.name];
      values.resize(static_cast<std::size_t>(tensor.size()));
      const bool gain = tensor.name.ends_with("norm.weight");
      const float deviation = tensor.shape.size() == 1 ? 0.2f : scale / std::sqrt(static_cast<float>(tensor.cols()));
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = (gain ? 1.0f : 0.0f) + deviation * random.normal(i);
    }
  }
  std::vector<TensorInfo> tensors() const override { return tensors_; }
  void read(const std::string& name, std::span<float> out) const override {
    std::copy_n(values_.at(name).begin(), out.size(), out.begin());
  }
  std::vector<float>& at(const std::string& name) { return values_.at(name); }

 private:
  std::vector<TensorInfo> tensors_;
  std::map<std::string, std::vector<float>> values_;
};

}  // namespace slipway::test
