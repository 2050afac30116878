#include "src/infer/loaded_model.hpp"

#include <algorithm>
#include <map>

#include "io/checkpoint_source.hpp"
#include "io/gguf_model.hpp"
#include "io/provenance.hpp"
#include "io/tensor_names.hpp"
#include "kernels/device.hpp"
#include "src/core/cpus.hpp"
#include "src/data/gguf_tokenizer.hpp"
#include "src/data/unicode.hpp"
#include "src/model/description_json.hpp"

namespace slipway {
namespace {

/// A checkpoint that stays open as long as its weights may be asked for.
class OpenCheckpoint : public TensorSource {
 public:
  explicit OpenCheckpoint(const std::filesystem::path& folder) : reader_(folder), weights_(reader_) {
    reader_.verify_all();
  }
  const CheckpointInfo& info() const { return reader_.info(); }
  std::vector<NamedTensor> tensors() const override { return weights_.tensors(); }
  void read(const std::string& name, std::span<float> out) const override { weights_.read(name, out); }

 private:
  CheckpointReader reader_;
  CheckpointSource weights_;
};

/// A model takes the memory that its description says, so each of its tensors must be there first.
void check_tensors(const ModelDescription& model, const TensorSource& source, const std::string& called) {
  const std::vector<NamedTensor> stored = source.tensors();
  std::map<std::string, const NamedTensor*> by_name;
  for (const NamedTensor& tensor : stored) by_name[tensor.name] = &tensor;
  const auto refuse = [&](const auto&... what) {
    throw Error(Fault::kStorage, join(called, ": ", what..., "; the checkpoint is damaged or not complete"));
  };
  if (model.layers > std::ssize(stored))  // noticed before listing them
    refuse(model.layers, " layers are declared, but only ", stored.size(), " tensors are there");
  for (const NamedTensor& wanted : tensors_of(model)) {
    const auto found = by_name.find(wanted.name);
    if (found == by_name.end()) refuse("the tensor ", wanted.name, " is missing");
    if (found->second->shape != wanted.shape)
      refuse(wanted.name, " has ", found->second->rows(), " rows of ", found->second->cols(), ", expected ",
             wanted.rows(), " of ", wanted.cols(), " from the architecture in its manifest");
  }
}

ModelBundle open_checkpoint(const std::string& path, const std::string& checkpoint) {
  const CheckpointRef ref = find_checkpoint(path, checkpoint);
  const auto source = std::make_shared<OpenCheckpoint>(ref.folder);
  const CheckpointInfo& info = source->info();
  ModelBundle files{.path = path, .kind = "checkpoint", .folder = ref.folder, .step = info.step, .info = info};
  files.description = description_of(info.architecture, ref.folder.string());
  check_tensors(files.description, *source, ref.folder.string());
  for (const char* key : {"license", "corpus_sha256"})
    if (const Json value = info.data.value(key, Json()); value.is_string() && !value.get<std::string>().empty())
      files.description.provenance[key] = value.get<std::string>();
  if (info.tokenizer.empty())
    throw Error(Fault::kStorage,
                join(ref.folder.string(),
                     ": no tokenizer is embedded, so its ids mean nothing; the checkpoint is not complete"));
  try {
    files.tokenizer = std::make_shared<Tokenizer>(
        Tokenizer::from_json(info.tokenizer, join("the tokenizer in ", ref.folder.string())));
  } catch (const Error& error) {
    throw Error(Fault::kStorage, error.what());  // what a checkpoint holds is storage, not data
  }
  if (files.tokenizer->vocabulary() > files.description.vocabulary)
    throw Error(Fault::kStorage, join(ref.folder.string(), ": the tokenizer has ", files.tokenizer->vocabulary(),
                                      " tokens, but the embedding only ", files.description.vocabulary,
                                      " rows; the tokenizer belongs to another model"));
  files.source = source;
  return files;
}

}  // namespace

ModelBundle open_gguf(const std::filesystem::path& path) {
  const auto source = std::make_shared<GgufModel>(path);
  const auto check = [&](const std::string& key, const std::string& text) {  // JSON and model cards take UTF-8 only
    if (!is_utf8(text))
      throw Error(Fault::kStorage, join(path.string(), ": the key ", key, " is not UTF-8; the file is damaged"));
  };
  check("general.name", source->description().name);
  for (const auto& [key, text] : source->description().provenance) check("slipway." + key, text);
  return {.path = path.string(),
          .kind = "gguf",
          .folder = path,
          .description = source->description(),
          .tokenizer = std::make_shared<Tokenizer>(tokenizer_of(source->file().metadata())),
          .source = source};
}

ModelBundle open_model(const std::string& path, const std::string& checkpoint) {
  if (!std::filesystem::exists(path))
    throw Error(Fault::kStorage,
                join("there is no model at ", path, "; give a run folder, a checkpoint folder or a .gguf file"));
  if (std::filesystem::is_directory(path)) return open_checkpoint(path, checkpoint);
  if (std::filesystem::path(path).extension() != ".gguf")
    throw Error(Fault::kConfig,
                join(path, " is a file but no .gguf; give a run folder, a checkpoint folder or a .gguf file"));
  return open_gguf(path);
}

LoadedModel::LoadedModel(ModelBundle files, const LoadOptions& options)
    : files_(std::move(files)),
      kernels_((set_instructions(options.instructions), &kernels_for(options.device))),
      compute_(resolve_compute(options.compute, kernels_->native_bf16)),
      self_(make_self_group()) {
  check_thread_count(options.threads);
  set_threads(options.threads > 0 ? options.threads : cpus_of_process());
  model_ = std::make_unique<Model>(files_.description, *kernels_, *self_,
                                   ModelOptions{.compute = compute_, .stored = files_.source.get()});
  model_->parameters().load(*files_.source);
  model_->refresh();
}

std::string LoadedModel::weights_sha256() const { return provenance_sha256(*files_.source); }

LoadedModel load_model(const std::string& path, const LoadOptions& options) {
  return {open_model(path, options.checkpoint), options};
}

}  // namespace slipway
