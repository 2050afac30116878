#include <algorithm>

#include "io/model/hugging_face_config.hpp"
#include "io/model/hugging_face_model.hpp"
#include "io/model/tensor_layout.hpp"
#include "src/core/clock.hpp"
#include "src/core/file.hpp"
#include "src/core/json.hpp"
#include "src/core/log.hpp"
#include "src/core/partial_folder.hpp"
#include "src/export/export.hpp"
#include "src/export/model_card.hpp"
#include "src/export/stored_weights.hpp"
#include "src/infer/support.hpp"

namespace slipway {
namespace {

namespace fs = std::filesystem;

DType dtype_of(TensorType type) {
  if (type == TensorType::kF32) return DType::kF32;
  if (type == TensorType::kF16) return DType::kF16;
  if (type == TensorType::kBf16) return DType::kBf16;
  throw Error(Fault::kConfig,
              join("safetensors has no type ", name(type), "; take f32, f16 or bf16, or export to a .gguf file"));
}

void require_empty_folder(const fs::path& folder) {
  std::error_code error;
  const fs::file_status status = fs::status(folder, error);
  if (!fs::exists(status)) return;
  if (!fs::is_directory(status))
    throw Error(Fault::kConfig,
                join(folder.string(), " is a file, expected a new or empty folder; name it *.gguf to export a GGUF"));
  if (!fs::is_empty(folder, error) || error)
    throw Error(Fault::kConfig,
                join("the folder ", folder.string(), " is not empty; name a new one, or remove what is in it"));
}

std::string generation_config(const Tokenizer& tokenizer) {
  Json json = {{"do_sample", false}};
  if (tokenizer.bos()) json["bos_token_id"] = *tokenizer.bos();
  const std::vector<int> eos_ids = tokenizer.end_of_generation_ids();  // transformers stops at any of them
  if (!eos_ids.empty()) json["eos_token_id"] = eos_ids.size() == 1 ? Json(eos_ids[0]) : Json(eos_ids);
  return to_pretty(json);
}

std::string tokenizer_config(const ModelSpec& model, const Tokenizer& tokenizer) {
  const Tokenizer::Parts& parts = tokenizer.parts();
  // transformers makes a token that is named here a special one. A token that the tokenizer has as ordinary text
  // (config.json may name any id) is named by its id alone, in config.json.
  const auto token_text = [&](std::optional<int> id) {
    return id && tokenizer.is_special(*id) ? Json(parts.tokens.at(static_cast<std::size_t>(*id))) : Json(nullptr);
  };
  Json json = {{"tokenizer_class", "PreTrainedTokenizerFast"},
               {"model_max_length", model.context},
               {"clean_up_tokenization_spaces", false},
               {"bos_token", token_text(parts.bos)},
               {"eos_token", token_text(parts.eos)}};
  if (!parts.chat_template.empty()) json["chat_template"] = parts.chat_template;
  return to_pretty(json);
}

void write_weights(const fs::path& file, const ModelSpec& model, StoredWeights& stored, std::optional<TensorType> type,
                   ExportReport& report) {
  std::map<std::string, std::string> metadata = {{"format", "pt"},
                                                 {"slipway.name", model.name}};  // transformers requires "pt"
  for (const auto& [key, value] : model.provenance) metadata["slipway." + key] = value;
  std::vector<SafeTensor> plan;
  for (std::size_t i = 0; i < stored.tensors().size(); ++i)
    plan.push_back({.tensor = stored.tensors()[i].stored, .dtype = dtype_of(type.value_or(stored.source_type(i)))});
  write_safetensors(file, metadata, plan, [&](std::size_t i, const ByteSink& sink) {
    stored.write(i, tensor_type_of(plan[i].dtype), sink, report);
  });
}

/// Reopens the written folder and compares all of it.
void verify_folder(const fs::path& folder, const ModelSpec& model, const Tokenizer& tokenizer, StoredWeights& stored) {
  const HuggingFaceModel reopened(folder);
  if (reopened.spec() != model)
    throw Error(Fault::kStorage,
                join(folder.string(), ": the reopened export describes another model than was written; export again"));
  if (Tokenizer::load(folder / "tokenizer.json").sha256() != tokenizer.sha256())
    throw Error(Fault::kStorage,
                join(folder.string(), ": the reopened tokenizer.json is not the model's tokenizer; export again"));
  for (std::size_t i = 0; i < stored.tensors().size(); ++i)
    stored.verify(i, reopened.file().bytes(reopened.file().at(stored.tensors()[i].stored.name)));
}

}  // namespace

ExportReport export_hugging_face(const ModelSpec& model, const Tokenizer& tokenizer, const TensorSource& weights,
                                 std::optional<TensorType> type, const fs::path& folder, const ExportCheck& check) {
  model.check(folder.string(), Fault::kConfig);
  require(tokenizer.vocabulary_size() <= model.vocabulary,
          "export_hugging_face: the model and its tokenizer have different vocabularies");
  StoredWeights stored(model, weights, ModelFormat::kHuggingFace);
  ExportReport report{.path = folder, .type = type.value_or(stored.main_source_type())};
  const DType dtype = dtype_of(report.type);
  require_empty_folder(folder);
  if (const std::string limitation = export_limitation(ModelFormat::kHuggingFace, model, tokenizer);
      !limitation.empty())
    throw Error(Fault::kConfig, limitation);

  if (!loads_with_auto_tokenizer(model, tokenizer))
    log::warn(join("transformers' AutoTokenizer cuts text for every qwen2 model by Qwen's own rules and not by ",
                   name(tokenizer.parts().pre),
                   ", whatever tokenizer.json says: load it with PreTrainedTokenizerFast"));

  PartialFolder partial_folder(folder);
  const fs::path& temporary_path = partial_folder.path();
  const double begin_s = now_s();
  write_weights(temporary_path / "model.safetensors", model, stored, type, report);
  report.write_s = now_s() - begin_s;
  atomic_write_file(temporary_path / "config.json",
                    hugging_face_config(model, dtype, tokenizer.bos().value_or(-1), tokenizer.eos().value_or(-1)));
  atomic_write_file(temporary_path / "generation_config.json", generation_config(tokenizer));
  atomic_write_file(temporary_path / "tokenizer.json", tokenizer.to_json());
  atomic_write_file(temporary_path / "tokenizer_config.json", tokenizer_config(model, tokenizer));
  verify_folder(temporary_path, model, tokenizer, stored);
  atomic_write_file(temporary_path / "README.md", model_card(model, tokenizer, report));
  for (const fs::directory_entry& entry : fs::directory_iterator(temporary_path)) report.bytes += entry.file_size();
  if (check) check(temporary_path);
  partial_folder.publish();
  return report;
}

}  // namespace slipway
