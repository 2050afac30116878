#include "launch/initial_weights.hpp"

namespace slipway {
namespace {

/// The first thing that sets two models apart, as "key here, there"; empty when weights of one serve the other.
std::string difference(const ModelDescription& here, const ModelDescription& there) {
  const auto differs = [](const char* key, const auto& a, const auto& b) {
    return a == b ? std::string() : join(key, " is ", a, " here and ", b, " there");
  };
  for (const std::string& found :
       {differs("the family (model.preset)", here.architecture, there.architecture),
        differs("model.layers", here.layers, there.layers), differs("model.width", here.width, there.width),
        differs("model.heads", here.heads, there.heads), differs("model.kv_heads", here.kv_heads, there.kv_heads),
        differs("the head width", here.head_width, there.head_width), differs("model.ffn", here.ffn, there.ffn),
        differs("the vocabulary", here.vocabulary, there.vocabulary),
        differs("model.rope_base", here.rope_base, there.rope_base),
        // A GGUF keeps it as f32.
        differs("model.norm_eps", static_cast<float>(here.norm_eps), static_cast<float>(there.norm_eps)),
        differs("model.tied", here.tied, there.tied)})
    if (!found.empty()) return found;
  return "";
}

}  // namespace

std::optional<ModelFiles> open_initial_weights(RunConfig& config, const ModelDescription& model,
                                               const Tokenizer& tokenizer) {
  if (config.train.init.empty()) return std::nullopt;
  ModelFiles files = open_model(config.train.init);
  const std::string found = difference(model, files.description);
  if (!found.empty())
    throw Error(Fault::kConfig,
                join("--init ", config.train.init, " is another kind of model: ", found, "; make the keys agree"));
  if (files.tokenizer->parts().tokens != tokenizer.parts().tokens)
    throw Error(Fault::kConfig, join("--init ", config.train.init, " knows other tokens than the data folder ",
                                     config.data.path, ": prepare the text again with that model's tokenizer"));
  config.train.init = files.folder.string();
  return files;
}

}  // namespace slipway
