#include "src/infer/loaded_model.hpp"

#include <algorithm>

#include "io/checkpoint/checkpoint_source.hpp"
#include "io/checkpoint/provenance.hpp"
#include "io/model/gguf_model.hpp"
#include "io/model/hugging_face_model.hpp"
#include "io/model/model_spec_json.hpp"
#include "io/model/tensor_layout.hpp"
#include "src/data/gguf_tokenizer.hpp"
#include "src/data/hugging_face_tokenizer.hpp"
#include "src/data/unicode.hpp"
#include "src/model/model_tensors.hpp"

namespace slipway {
namespace {

/// A source of a checkpoint's weights that owns its reader.
class OwningCheckpointSource : public TensorSource {
 public:
  explicit OwningCheckpointSource(const std::filesystem::path& folder) : reader_(folder), weights_(reader_) {
    reader_.verify_all();
  }
  const CheckpointInfo& info() const { return reader_.info(); }
  std::vector<TensorInfo> tensors() const override { return weights_.tensors(); }
  void read(const std::string& name, std::span<float> out) const override { weights_.read(name, out); }

 private:
  CheckpointReader reader_;
  CheckpointSource weights_;
};

/// Errors   Fault::kStorage where the tokenizer has ids without a row of the embedding.
void check_embedding_rows(const ModelBundle& bundle) {
  if (bundle.tokenizer->vocabulary_size() > bundle.spec.vocabulary)
    throw Error(Fault::kStorage, join(bundle.folder.string(), ": the tokenizer has ",
                                      bundle.tokenizer->vocabulary_size(), " tokens, but the embedding only ",
                                      bundle.spec.vocabulary, " rows; the tokenizer belongs to another model"));
}

ModelBundle open_checkpoint(const std::string& path, const std::string& checkpoint) {
  const CheckpointRef ref = find_checkpoint(path, checkpoint);
  const auto source = std::make_shared<OwningCheckpointSource>(ref.folder);
  const CheckpointInfo& info = source->info();
  ModelBundle bundle{.path = path, .kind = "checkpoint", .folder = ref.folder, .step = info.step, .info = info};
  bundle.spec = spec_from_json(info.architecture, ref.folder.string());
  check_tensors(bundle.spec, *source, ref.folder.string(), "the architecture in its manifest");
  for (const char* key : {"license", "corpus_sha256"})
    if (const Json value = info.data.value(key, Json()); value.is_string() && !value.get<std::string>().empty())
      bundle.spec.provenance[key] = value.get<std::string>();
  if (info.tokenizer.empty())
    throw Error(Fault::kStorage,
                join(ref.folder.string(),
                     ": no tokenizer is embedded, so its ids mean nothing; the checkpoint is not complete"));
  try {
    bundle.tokenizer = std::make_shared<Tokenizer>(
        Tokenizer::from_json(info.tokenizer, join("the tokenizer in ", ref.folder.string())));
  } catch (const Error& error) {
    throw Error(Fault::kStorage, error.what());  // Tokenizer::from_json throws kData
  }
  check_embedding_rows(bundle);
  bundle.source = source;
  return bundle;
}

}  // namespace

ModelBundle open_gguf(const std::filesystem::path& path) {
  const auto source = std::make_shared<GgufModel>(path);
  // JSON and model cards take UTF-8 only.
  const auto check_utf8 = [&](const std::string& key, const std::string& text) {
    if (!is_utf8(text))
      throw Error(Fault::kStorage, join(path.string(), ": the key ", key, " is not UTF-8; the file is damaged"));
  };
  check_utf8("general.name", source->spec().name);
  for (const auto& [key, text] : source->spec().provenance) check_utf8("slipway." + key, text);
  check_tensors(source->spec(), *source, path.string(), "the file's own keys");
  return {.path = path.string(),
          .kind = "gguf",
          .folder = path,
          .spec = source->spec(),
          .tokenizer = std::make_shared<Tokenizer>(tokenizer_of(source->file().metadata())),
          .source = source};
}

ModelBundle open_hugging_face(const std::filesystem::path& folder) {
  const auto source = std::make_shared<HuggingFaceModel>(folder);
  check_tensors(source->spec(), *source, folder.string(), "its config.json", ModelFormat::kHuggingFace);
  ModelBundle bundle{.path = folder.string(),
                     .kind = "folder",
                     .folder = folder,
                     .spec = source->spec(),
                     .tokenizer = std::make_shared<Tokenizer>(read_hugging_face_tokenizer(folder)),
                     .source = source};
  if (bundle.spec.name.empty())
    bundle.spec.name = std::filesystem::absolute(folder).lexically_normal().filename().string();
  check_embedding_rows(bundle);
  return bundle;
}

ModelBundle open_model(const std::string& path, const std::string& checkpoint) {
  if (!std::filesystem::exists(path))
    throw Error(Fault::kStorage,
                join("there is no model at ", path,
                     "; give a run folder, a checkpoint folder, a .gguf file or a Hugging Face folder"));
  if (std::filesystem::is_directory(path) && std::filesystem::exists(std::filesystem::path(path) / "config.json"))
    return open_hugging_face(path);
  if (std::filesystem::is_directory(path)) return open_checkpoint(path, checkpoint);
  if (std::filesystem::path(path).extension() != ".gguf")
    throw Error(Fault::kConfig,
                join(path,
                     " is a file but no .gguf; give a run folder, a checkpoint folder, a .gguf file or a Hugging "
                     "Face folder"));
  return open_gguf(path);
}

LoadedModel::LoadedModel(ModelBundle bundle, const LoadOptions& options)
    : bundle_(std::move(bundle)),
      runtime_(std::make_unique<Runtime>(
          RuntimeOptions{.device = options.device, .instructions = options.instructions, .threads = options.threads})),
      compute_dtype_(resolve_compute(options.compute, backend().native_bf16)),
      group_(make_self_group()) {
  model_ =
      std::make_unique<Model>(bundle_.spec, backend(), *group_,
                              ModelOptions{.compute_dtype = compute_dtype_, .quantized_source = bundle_.source.get()});
  model_->parameters().load(*bundle_.source);
  model_->update_compute_copy();
}

std::string LoadedModel::weights_sha256() const { return provenance_sha256(*bundle_.source); }

LoadedModel load_model(const std::string& path, const LoadOptions& options) {
  return {open_model(path, options.checkpoint), options};
}

}  // namespace slipway
