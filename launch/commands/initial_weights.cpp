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
std::string preset_like(const ModelSpec& model) {
  const auto log_size = [](const ModelSpec& one) {
    return std::log(static_cast<double>(parameter_count(one, /*with_embeddings=*/false)));
  };
  std::string nearest_one;
  double nearest_by = 0;
  for (const Preset& preset : presets()) {
    ModelSpec spec = preset.spec;
    if (spec.architecture != model.architecture) continue;
    if (spec.name == model.name) return spec.name;
    spec.vocabulary = 1, spec.context = 1;
    const double by = std::abs(log_size(spec) - log_size(model));
    if (nearest_one.empty() || by < nearest_by) nearest_one = spec.name, nearest_by = by;
  }
  return nearest_one;
}

/// Takes the shape from the model, except for keys that were given; a given preset overrides the whole shape.
void copy_shape(ModelConfig& config, const Fields& fields, const ModelBundle& files, int sequence) {
  const ModelSpec& model = files.spec;
  if (!fields.given("model.context"))
    config.shape.context = model.learned_positions ? model.context : std::max(model.context, sequence);
  if (fields.given("model.preset")) return;
  config.preset = preset_like(model);
  config.copy_shape(model, [&](std::string_view key) { return key == "model.context" || fields.given(key); });
  // Embedding rows beyond the tokens are part of the model's shape; otherwise the data determines the number of rows.
  if (model.vocabulary == files.tokenizer->vocabulary() && !fields.given("model.embedding_rows"))
    config.shape.vocabulary = 0;
}

/// Checks the given weights before step 1, so that the error names their model as the cause.
void check_finite(const TensorSource& source, const std::string& called) {
  std::vector<float> values;
  for (const TensorInfo& tensor : source.tensors()) {
    values.resize(static_cast<std::size_t>(tensor.rows() * tensor.cols()));
    source.read(tensor.name, values);
    const auto bad = std::ranges::find_if(values, [](float value) { return !std::isfinite(value); });
    if (bad != values.end())
      throw Error(Fault::kNumeric, join("--init ", called, ": element ", bad - values.begin(), " of ", tensor.name,
                                        " is ", *bad, "; that model is damaged or its training failed: give another"));
  }
}

}  // namespace

std::optional<ModelBundle> open_initial_weights(RunConfig& config, const Fields& fields) {
  if (config.train.init.empty()) return std::nullopt;
  ModelBundle files = open_model(config.train.init);
  copy_shape(config.model, fields, files, config.train.sequence);
  return files;
}

void check_initial_weights(RunConfig& config, const ModelBundle& files, const ModelSpec& model,
                           const Tokenizer& tokenizer) {
  const std::string found = difference(model, files.spec);
  if (!found.empty())
    throw Error(Fault::kConfig,
                join("--init ", config.train.init, " is another kind of model: ", found,
                     found.starts_with("the vocabulary") ? "; prepare the text with that model's tokenizer"
                                                         : "; leave model.* keys out, and its shape is taken"));
  if (files.tokenizer->parts().tokens != tokenizer.parts().tokens)
    throw Error(Fault::kConfig, join("--init ", config.train.init, " knows other tokens than the data folder ",
                                     config.data.path, ": prepare the text again with that model's tokenizer"));
  check_finite(*files.source, config.train.init);
  config.train.init = files.folder.string();
}

std::string describe_initial_weights(const ModelBundle& files) {
  const ModelSpec& m = files.spec;
  return join("initial weights: loaded from ", files.folder.string(),
              files.kind == "checkpoint" ? join(" (step ", files.step, ")") : std::string(),
              ", which also gives the shape: ", m.architecture, ", layers ", m.layers, ", width ", m.width, ", heads ",
              m.heads, " (kv ", m.kv_heads, "), ffn ", m.ffn, ", vocabulary ", m.vocabulary, m.tied ? ", tied" : "");
}

}  // namespace slipway
