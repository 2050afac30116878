#include "io/model/gguf_model.hpp"
#include "src/core/clock.hpp"
#include "src/core/file.hpp"
#include "src/data/gguf_tokenizer.hpp"
#include "src/export/export.hpp"
#include "src/export/stored_weights.hpp"
#include "src/infer/support.hpp"

namespace slipway {
namespace {

void check_free_space(const std::filesystem::path& path, std::uint64_t needed) {
  const std::uint64_t available = free_bytes(path);
  if (needed > available)
    throw Error(
        Fault::kStorage,
        join("cannot write ", path.string(), ": it needs ", human_bytes(static_cast<double>(needed)), ", the disk has ",
             human_bytes(static_cast<double>(available)), " free; make room or export to another disk"));
}

/// Reopens the written file and compares all of it.
void verify_gguf(const std::filesystem::path& path, const ModelSpec& model, const Tokenizer& tokenizer,
                 StoredWeights& weights) {
  const GgufModel reopened(path);
  if (reopened.spec() != round_to_stored_precision(model))
    throw Error(Fault::kStorage,
                join(path.string(), ": the reopened export describes another model than was written; export again"));
  compare_tokenizers(path.string(), tokenizer.parts(), tokenizer_parts(reopened.file().metadata()));
  for (std::size_t i = 0; i < weights.tensors().size(); ++i)
    weights.verify(i, reopened.file().bytes(reopened.file().at(weights.tensors()[i].stored.name)));
}

}  // namespace

TensorType stored_type(const TensorInfo& tensor, TensorType requested) {
  if (tensor.shape.size() == 1) return TensorType::kF32;  // llama.cpp aborts at the first token with an f16 norm
  if (tensor.name == "position_embd.weight") return TensorType::kF32;  // as llama.cpp's converter does
  return fits(requested, tensor.cols()) ? requested : TensorType::kF16;
}

ExportReport export_gguf(const ModelSpec& model, const Tokenizer& tokenizer, const TensorSource& weights,
                         std::optional<TensorType> type, const std::filesystem::path& path, const ExportCheck& check) {
  model.check(path.string(), Fault::kConfig);
  require(tokenizer.vocabulary_size() <= model.vocabulary, "export_gguf: the tokenizer has ids without a row");
  if (const std::string limitation = export_limitation(ModelFormat::kGguf, model, tokenizer); !limitation.empty())
    throw Error(Fault::kConfig, limitation);
  StoredWeights stored(model, weights, ModelFormat::kGguf);
  ExportReport report{.path = path, .type = type.value_or(stored.main_source_type())};
  GgufMetadata metadata = gguf_metadata_of(model, report.type);
  add_tokenizer(metadata, tokenizer.parts(), model.vocabulary);

  std::vector<GgufTensorSpec> plan;
  for (std::size_t i = 0; i < stored.tensors().size(); ++i) {
    const TensorInfo& tensor = stored.tensors()[i].stored;
    const TensorType requested = type.value_or(stored.source_type(i));
    plan.push_back({tensor, stored_type(tensor, requested)});
    if (!fits(requested, tensor.cols()) && plan.back().type == TensorType::kF16)
      report.fallbacks.push_back(join(tensor.name, ": rows of ", tensor.cols(), " break blocks of ",
                                      block_elements(requested), ", stored as f16"));
  }
  report.bytes = gguf_file_bytes(metadata, plan);
  check_free_space(path, report.bytes);

  // The temporary file is renamed to `path` only after the comparison.
  atomic_write_file_with(path, [&](const std::filesystem::path& temporary_path) {
    const double begin_s = now_s();
    write_gguf(temporary_path, metadata, plan,
               [&](std::size_t i, const ByteSink& sink) { stored.write(i, plan[i].type, sink, report); });
    report.write_s = now_s() - begin_s;
    verify_gguf(temporary_path, model, tokenizer, stored);
    if (check) check(temporary_path);
  });
  return report;
}

}  // namespace slipway
