// Opens and loads a model from any of the formats that commands take: a run folder, a checkpoint folder, a .gguf, a
// Hugging Face folder.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "comm/group.hpp"
#include "io/checkpoint/checkpoint.hpp"
#include "io/model/model_spec.hpp"
#include "io/model/tensor_source.hpp"
#include "kernels/backend/runtime.hpp"
#include "src/core/config.hpp"
#include "src/data/tokenizer.hpp"
#include "src/model/model.hpp"

namespace slipway {

/// How a MODEL argument is opened. Options `checkpoint` and `device`, keys `numerics.compute`,
/// `runtime.threads` and `runtime.instructions`.
struct LoadOptions {
  std::string checkpoint;       ///< of a run folder: "" newest, "best", or a step
  std::string compute = "f32";  ///< f32, bf16 or auto
  int threads = 0;              ///< 0: the CPUs this process may use
  std::string instructions = "auto";
  std::string device = "auto";

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("checkpoint", self.checkpoint,
          {"which checkpoint of a run folder; the newest where none is named", "best|STEP"}, ResumePolicy::kReporting);
    visit("numerics.compute", self.compute,
          {"dtype of matmuls; auto: bf16 where the hardware supports it, else f32", "f32|bf16|auto"},
          ResumePolicy::kReporting);
    visit("runtime.threads", self.threads, "CPU threads; 0: all CPUs of this process", ResumePolicy::kReporting);
    visit("runtime.instructions", self.instructions,
          {"instruction set of the CPU kernels; auto: the best that this CPU has", "base|avx512|avx512_bf16|auto"},
          ResumePolicy::kReporting);
    visit("device", self.device,
          {"where to compute; auto: a GPU where one can be used, else the CPU", "cpu|cuda|cuda:N|auto"},
          ResumePolicy::kReporting);
  }
};

/// A spec, a tokenizer and a source of weights; no weights are loaded yet.
struct ModelBundle {
  std::string path;              ///< as given to open_model()
  std::string kind;              ///< "checkpoint", "gguf" or "folder" (Hugging Face's)
  std::filesystem::path folder;  ///< of the checkpoint or the Hugging Face model; for a GGUF, the file itself
  ModelSpec spec;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const TensorSource> source;
  std::int64_t step = 0;  ///< of a checkpoint
  CheckpointInfo info;    ///< of a checkpoint; else default-constructed
};
/// Opens the model at `path`; `checkpoint` as LoadOptions::checkpoint.
/// Errors   Fault::kStorage when there is none, or it is damaged; Fault::kConfig for a file of another kind.
ModelBundle open_model(const std::string& path, const std::string& checkpoint = "");

/// Opens a GGUF file, whatever its extension. Errors: as open_model().
ModelBundle open_gguf(const std::filesystem::path& file);
/// Opens a folder with config.json, safetensors and a tokenizer. Errors: as open_model().
ModelBundle open_hugging_face(const std::filesystem::path& folder);

/// A model with its weights in memory, on one rank.
class LoadedModel {
 public:
  LoadedModel(ModelBundle bundle, const LoadOptions& options);

  const ModelBundle& bundle() const { return bundle_; }
  const ModelSpec& spec() const { return bundle_.spec; }
  const Tokenizer& tokenizer() const { return *bundle_.tokenizer; }
  Model& model() { return *model_; }
  DType compute_dtype() const { return compute_dtype_; }
  const Backend& backend() const { return runtime_->backend(); }
  /// ProvenanceHash (io/checkpoint/provenance.hpp): identifies the weights, independent of the file that holds them.
  std::string weights_sha256() const;

 private:
  ModelBundle bundle_;
  std::unique_ptr<Runtime> runtime_;  // outlives the model, which refers to its backend
  DType compute_dtype_;
  std::unique_ptr<Group> group_;
  std::unique_ptr<Model> model_;
};
LoadedModel load_model(const std::string& path, const LoadOptions& options);

}  // namespace slipway
