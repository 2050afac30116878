#include "launch/initial_weights.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "src/core/log.hpp"
#include "src/core/plural.hpp"

namespace slipway {
namespace {

/// A model whose embedding, and head, end with the last token: padding belongs to a file and to no run.
class WithoutPadding : public TensorSource {
 public:
  WithoutPadding(std::shared_ptr<const TensorSource> padded, int tokens)
      : padded_(std::move(padded)), tokens_(tokens), padded_tensors_(padded_->tensors()) {}

  std::vector<NamedTensor> tensors() const override {
    std::vector<NamedTensor> cut = padded_tensors_;
    for (NamedTensor& tensor : cut)
      if (has_padding(tensor.name)) tensor.shape.front() = tokens_;
    return cut;
  }
  void read(const std::string& name, std::span<float> out) const override {
    const auto found = std::ranges::find(padded_tensors_, name, &NamedTensor::name);
    if (!has_padding(name) || found == padded_tensors_.end()) return padded_->read(name, out);
    std::vector<float> all(static_cast<std::size_t>(found->size()));
    require(out.size() <= all.size(), "WithoutPadding::read: the span does not fit the tensor");
    padded_->read(name, all);
    std::ranges::copy(std::span(all).first(out.size()), out.begin());
  }

 private:
  static bool has_padding(const std::string& name) { return name == "token_embd.weight" || name == "output.weight"; }

  std::shared_ptr<const TensorSource> padded_;
  std::int64_t tokens_;
  std::vector<NamedTensor> padded_tensors_;
};

void take_padding_away(ModelBundle& files) {
  const int tokens = files.tokenizer->vocabulary(), rows = files.description.vocabulary;
  if (rows <= tokens) return;
  files.source = std::make_shared<WithoutPadding>(files.source, tokens);
  files.description.vocabulary = tokens;
  log::info(join("initial weights: ", counted(rows - tokens, "row"), " of padding behind the ", tokens,
                 " tokens are left out"));
}

/// The preset of the model's family that its name says, or that is nearest in size: the learning rate follows it.
std::string preset_like(const ModelDescription& model) {
  std::string nearest_one;
  double nearest_by = 0;
  for (const Preset& size : presets()) {
    const std::string preset = join(model.architecture, "-", size.size);
    if (preset == model.name) return preset;
    ModelConfig config{.preset = preset};
    config.resolve(model.context);
    const double by = std::abs(std::log(static_cast<double>(parameter_count(config.describe(1), false))) -
                               std::log(static_cast<double>(parameter_count(model, false))));
    if (nearest_one.empty() || by < nearest_by) nearest_one = preset, nearest_by = by;
  }
  return nearest_one;
}

/// The shape that is not given is the model's; a given preset gives every size of it.
void take_shape(ModelConfig& config, const Fields& fields, const ModelDescription& model, int sequence) {
  if (!fields.given("model.context")) config.context = std::max(model.context, sequence);
  if (fields.given("model.preset")) return;
  config.preset = preset_like(model);
  const auto take = [&](const char* key, auto& value, const auto& there) {
    if (!fields.given(key)) value = there;
  };
  take("model.layers", config.layers, model.layers);
  take("model.width", config.width, model.width);
  take("model.heads", config.heads, model.heads);
  take("model.kv_heads", config.kv_heads, model.kv_heads);
  take("model.ffn", config.ffn, model.ffn);
  take("model.tied", config.tied, std::string(model.tied ? "on" : "off"));
  take("model.rope_base", config.rope_base, model.rope_base);
  ModelConfig like{.preset = config.preset};
  like.resolve(sequence);
  const bool usual = static_cast<float>(like.norm_eps) == static_cast<float>(model.norm_eps);  // a GGUF keeps it as f32
  take("model.norm_eps", config.norm_eps, usual ? like.norm_eps : model.norm_eps);
}

/// Before step 1, where nothing but the model given can be the cause.
void check_finite(const TensorSource& source, const std::string& called) {
  std::vector<float> values;
  for (const NamedTensor& tensor : source.tensors()) {
    values.resize(static_cast<std::size_t>(tensor.rows() * tensor.cols()));
    source.read(tensor.name, values);
    const auto bad = std::ranges::find_if(values, [](float value) { return !std::isfinite(value); });
    if (bad != values.end())
      throw Error(Fault::kNumeric, join("--init ", called, ": element ", bad - values.begin(), " of ", tensor.name,
                                        " is ", *bad, "; that model is damaged or its training failed: give another"));
  }
}

}  // namespace

std::string shape_difference(const ModelDescription& here, const ModelDescription& there) {
  const auto differs = [](const char* key, const auto& a, const auto& b) {
    return a == b ? std::string() : join(key, " is ", a, " here and ", b, " there");
  };
  const auto word = [](bool on) { return on ? "on" : "off"; };
  for (const std::string& found :
       {differs("the family (model.preset)", here.architecture, there.architecture),
        differs("model.layers", here.layers, there.layers), differs("model.width", here.width, there.width),
        differs("model.heads", here.heads, there.heads), differs("model.kv_heads", here.kv_heads, there.kv_heads),
        differs("the head width", here.head_width, there.head_width), differs("model.ffn", here.ffn, there.ffn),
        differs("the vocabulary", here.vocabulary, there.vocabulary),
        differs("model.tied", std::string(word(here.tied)), std::string(word(there.tied)))})
    if (!found.empty()) return found;
  return "";
}

std::optional<ModelBundle> open_initial_weights(RunConfig& config, const Fields& fields) {
  if (config.train.init.empty()) return std::nullopt;
  ModelBundle files = open_model(config.train.init);
  take_padding_away(files);
  take_shape(config.model, fields, files.description, config.train.sequence);
  return files;
}

void check_initial_weights(RunConfig& config, const ModelBundle& files, const ModelDescription& model,
                           const Tokenizer& tokenizer) {
  std::string found = shape_difference(model, files.description);
  // What gives the same weights another meaning. A GGUF keeps it as f32.
  if (found.empty() && static_cast<float>(model.rope_base) != static_cast<float>(files.description.rope_base))
    found = join("model.rope_base is ", model.rope_base, " here and ", files.description.rope_base, " there");
  if (found.empty() && static_cast<float>(model.norm_eps) != static_cast<float>(files.description.norm_eps))
    found = join("model.norm_eps is ", model.norm_eps, " here and ", files.description.norm_eps, " there");
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
  const ModelDescription& m = files.description;
  return join("initial weights: loaded from ", files.folder.string(),
              files.kind == "checkpoint" ? join(" (step ", files.step, ")") : std::string(),
              ", which also gives the shape: ", m.architecture, ", layers ", m.layers, ", width ", m.width, ", heads ",
              m.heads, " (kv ", m.kv_heads, "), ffn ", m.ffn, ", vocabulary ", m.vocabulary, m.tied ? ", tied" : "");
}

}  // namespace slipway
