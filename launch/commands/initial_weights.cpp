#include "launch/commands/initial_weights.hpp"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

#include "io/model/model_family.hpp"
#include "src/model/model_tensors.hpp"

namespace slipway {
namespace {

/// The preset of the model's family with its name, or else the nearest in size; it determines the learning rate.
std::string find_nearest_preset(const ModelSpec& model) {
  const auto log_size = [](const ModelSpec& model_spec) {
    return std::log(static_cast<double>(parameter_count(model_spec, /*with_embeddings=*/false)));
  };
  std::string nearest_preset;
  double nearest_distance = 0;
  for (const Preset& preset : presets()) {
    ModelSpec spec = preset.spec;
    if (spec.architecture != model.architecture) continue;
    if (spec.name == model.name) return spec.name;
    spec.vocabulary = 1, spec.context = 1;
    const double distance = std::abs(log_size(spec) - log_size(model));
    if (nearest_preset.empty() || distance < nearest_distance) nearest_preset = spec.name, nearest_distance = distance;
  }
  return nearest_preset;
}

/// Copies the model's shape into `config`, except for keys that are set; a preset that is set replaces the whole shape.
void copy_shape(ModelConfig& config, const Fields& fields, const ModelBundle& bundle, int sequence) {
  const ModelSpec& model = bundle.spec;
  if (!fields.is_set("model.context"))
    config.shape.context = model.learned_positions ? model.context : std::max(model.context, sequence);
  if (fields.is_set("model.preset")) return;
  config.preset = find_nearest_preset(model);
  config.copy_shape(model, [&](std::string_view key) { return key == "model.context" || fields.is_set(key); });
  // Embedding rows beyond the tokens are part of the model's shape; otherwise the data determines the number of rows.
  if (model.vocabulary == bundle.tokenizer->vocabulary_size() && !fields.is_set("model.embedding_rows"))
    config.shape.vocabulary = 0;
}

/// Checks the given weights before step 1, so that the error names their model as the cause.
void check_finite(const TensorSource& source, const std::string& source_name) {
  std::vector<float> values;
  for (const TensorInfo& tensor : source.tensors()) {
    values.resize(static_cast<std::size_t>(tensor.rows() * tensor.cols()));
    source.read(tensor.name, values);
    const auto non_finite = std::ranges::find_if(values, [](float value) { return !std::isfinite(value); });
    if (non_finite != values.end())
      throw Error(Fault::kNumeric,
                  join("--init ", source_name, ": element ", non_finite - values.begin(), " of ", tensor.name, " is ",
                       *non_finite, "; that model is damaged or its training failed: give another"));
  }
}

}  // namespace

std::optional<ModelBundle> open_initial_weights(RunConfig& config, const Fields& fields) {
  if (config.train.init.empty()) return std::nullopt;
  ModelBundle bundle = open_model(config.train.init);
  copy_shape(config.model, fields, bundle, config.train.sequence);
  return bundle;
}

void check_initial_weights(RunConfig& config, const ModelBundle& bundle, const ModelSpec& model,
                           const Tokenizer& tokenizer) {
  const std::string mismatch = describe_difference(model, bundle.spec);
  if (!mismatch.empty())
    throw Error(Fault::kConfig,
                join("--init ", config.train.init, " is another kind of model: ", mismatch,
                     mismatch.starts_with("the vocabulary") ? "; prepare the text with that model's tokenizer"
                                                            : "; leave model.* keys out, and its shape is taken"));
  if (bundle.tokenizer->parts().tokens != tokenizer.parts().tokens)
    throw Error(Fault::kConfig, join("--init ", config.train.init, " knows other tokens than the data folder ",
                                     config.data.path, ": prepare the text again with that model's tokenizer"));
  check_finite(*bundle.source, config.train.init);
  config.train.init = bundle.folder.string();
}

std::string describe_initial_weights(const ModelBundle& bundle) {
  const ModelSpec& m = bundle.spec;
  return join("initial weights: loaded from ", bundle.folder.string(),
              bundle.kind == "checkpoint" ? join(" (step ", bundle.step, ")") : std::string(),
              ", which also gives the shape: ", m.architecture, ", layers ", m.layers, ", width ", m.width, ", heads ",
              m.heads, " (kv ", m.kv_heads, "), ffn ", m.ffn, ", vocabulary ", m.vocabulary, m.tied ? ", tied" : "");
}

}  // namespace slipway
