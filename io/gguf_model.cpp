#include "io/gguf_model.hpp"

#include <algorithm>
#include <limits>

#include "io/gguf_keys.hpp"
#include "io/tensor_names.hpp"

namespace slipway {
namespace {

constexpr std::uint32_t kQuantizationVersion = 2;  // of ggml's block layouts, since May 2023

/// general.file_type counts otherwise than tensor types do.
std::uint32_t file_type(TensorType stored) {
  switch (stored) {
    case TensorType::kF32: return 0;
    case TensorType::kF16: return 1;
    case TensorType::kQ4_0: return 2;
    case TensorType::kQ8_0: return 7;
    case TensorType::kBf16: return 32;
  }
  return 0;
}

int whole(const GgufMetadata& data, const std::string& key, std::int64_t absent = -1) {
  const std::int64_t value = absent < 0 ? data.integer(key) : data.integer(key, absent);
  if (value >= 0 && value <= std::numeric_limits<int>::max()) return static_cast<int>(value);
  throw Error(Fault::kStorage, join(data.called(), ": the key ", key, " is ", value, ", which is no size of a model"));
}

/// Rows of the embedding: as many as there are tokens, or more (a padded table), never fewer.
int embedding_rows(const GgufFile& file) {
  const std::int64_t rows = file.at("token_embd.weight").tensor.rows();
  constexpr const char* kTokens = "tokenizer.ggml.tokens";
  const std::size_t tokens = file.metadata().has(kTokens) ? file.metadata().texts(kTokens).size() : 0;
  if (static_cast<std::size_t>(rows) < tokens)
    throw Error(Fault::kStorage,
                join(file.metadata().called(), ": the tokenizer has ", tokens, " tokens, but the embedding only ", rows,
                     " rows; the tokenizer belongs to another model"));
  return static_cast<int>(std::min<std::int64_t>(rows, std::numeric_limits<int>::max()));
}

}  // namespace

GgufMetadata gguf_metadata_of(const ModelDescription& model, TensorType stored) {
  const std::string& a = model.architecture;
  const auto count = [](int value) { return static_cast<std::uint32_t>(value); };
  GgufMetadata data;
  data.add("general.architecture", a);
  data.add("general.type", std::string("model"));
  data.add("general.name", model.name);
  data.add("general.file_type", file_type(stored));
  data.add("general.quantization_version", kQuantizationVersion);
  data.add(a + ".context_length", count(model.context));
  data.add(a + ".embedding_length", count(model.width));
  data.add(a + ".block_count", count(model.layers));
  data.add(a + ".feed_forward_length", count(model.ffn));
  data.add(a + ".attention.head_count", count(model.heads));
  data.add(a + ".attention.head_count_kv", count(model.kv_heads));
  data.add(a + ".attention.layer_norm_rms_epsilon", static_cast<float>(model.norm_eps));
  if (a != "qwen2") {  // whose loader has no such keys: its head width is width / heads
    data.add(a + ".attention.key_length", count(model.head_width));
    data.add(a + ".attention.value_length", count(model.head_width));
  }
  data.add(a + ".rope.dimension_count", count(model.head_width));
  data.add(a + ".rope.freq_base", static_cast<float>(model.rope_base));
  data.add(a + ".vocab_size", count(model.vocabulary));
  for (const auto& [key, value] : model.provenance) data.add(std::string(kProvenancePrefix) + key, value);
  return data;
}

ModelDescription description_of(const GgufFile& file) {
  const GgufMetadata& data = file.metadata();
  refuse_partial_file(data);
  ModelDescription model;
  model.architecture = data.text("general.architecture");
  const std::string& a = model.architecture;
  if (a != "llama" && a != "qwen2" && a != "qwen3")
    throw Error(Fault::kStorage,
                join(data.called(), ": the architecture is '", a, "', but Slipway reads llama, qwen2 and qwen3"));

  model.layers = whole(data, a + ".block_count");
  model.width = whole(data, a + ".embedding_length");
  model.heads = whole(data, a + ".attention.head_count");
  model.kv_heads = whole(data, a + ".attention.head_count_kv", model.heads);
  model.head_width = whole(data, a + ".attention.key_length", model.width / std::max(1, model.heads));
  model.ffn = whole(data, a + ".feed_forward_length");
  model.context = whole(data, a + ".context_length");
  model.norm_eps = data.real(a + ".attention.layer_norm_rms_epsilon");
  model.rope_base = data.real(a + ".rope.freq_base", model.rope_base);
  model.vocabulary = embedding_rows(file);
  model.tied = !file.has("output.weight");
  model.qkv_bias = file.has("blk.0.attn_q.bias");
  model.qk_norm = file.has("blk.0.attn_q_norm.weight");
  model.name = data.text("general.name", "");
  for (const auto& [key, value] : data)
    if (const std::string* text = std::get_if<std::string>(&value);
        text != nullptr && key.starts_with(kProvenancePrefix))
      model.provenance[key.substr(kProvenancePrefix.size())] = *text;

  model.check(data.called(), Fault::kStorage);
  refuse_unsupported_features(data, model);
  return model;
}

GgufModel::GgufModel(const std::filesystem::path& path) : file_(path), description_(description_of(file_)) {
  const auto count = static_cast<std::int64_t>(file_.tensors().size());
  if (description_.layers > count)  // each layer has many tensors: noticed before listing them
    throw Error(Fault::kStorage, join(path.string(), ": ", description_.layers, " layers are declared, but only ",
                                      count, " tensors are there"));
  tensors_ = tensors_of(description_);
  for (const NamedTensor& wanted : tensors_) {
    const NamedTensor& found = file_.at(wanted.name).tensor;
    if (found.shape != wanted.shape)
      throw Error(Fault::kStorage,
                  join(path.string(), ": ", wanted.name, " has ", found.rows(), " rows of ", found.cols(),
                       ", expected ", wanted.rows(), " of ", wanted.cols(), " from the file's own keys"));
  }
  if (tensors_.size() == file_.tensors().size()) return;
  for (const GgufTensor& entry : file_.tensors()) {
    const bool known = std::any_of(tensors_.begin(), tensors_.end(),
                                   [&](const NamedTensor& one) { return one.name == entry.tensor.name; });
    if (!known)
      throw Error(Fault::kStorage, join(path.string(), ": the tensor ", entry.tensor.name, " has no place in a ",
                                        description_.architecture,
                                        " model as Slipway computes it; leaving it out would give wrong numbers"));
  }
}

void GgufModel::read(const std::string& name, std::span<float> out) const {
  const GgufTensor& entry = file_.at(name);
  require(static_cast<std::int64_t>(out.size()) == entry.tensor.size(),
          "GgufModel::read: the span does not fit the tensor");
  file_.read(entry, out);
  if (const int heads = permuted_heads(description_, name); heads > 0)
    unpermute_rope(out, heads, entry.tensor.shape.size() == 1 ? 1 : entry.tensor.cols());
}

TensorType GgufModel::stored_as(const std::string& name) const {
  return file_.has(name) ? static_cast<TensorType>(file_.at(name).type) : TensorType::kF32;
}

void GgufModel::read_stored(const std::string& name, std::span<std::byte> out) const {
  const GgufTensor& entry = file_.at(name);
  const std::span<const std::byte> stored = file_.bytes(entry);
  require(out.size() == stored.size(), "GgufModel::read_stored: the span does not fit the tensor");
  std::ranges::copy(stored, out.begin());
  if (const int heads = permuted_heads(description_, name); heads > 0)
    unpermute_rope(out, heads, static_cast<std::int64_t>(out.size()) / entry.tensor.rows());
}

}  // namespace slipway
