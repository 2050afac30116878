#include "io/model/gguf_model.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

#include "io/model/gguf_checks.hpp"
#include "io/model/model_family.hpp"
#include "io/model/tensor_layout.hpp"

namespace slipway {
namespace {

constexpr std::uint32_t kQuantizationVersion = 2;  // of ggml's block layouts, since May 2023

/// The value of general.file_type, whose enumeration differs from that of tensor types.
std::uint32_t file_type(TensorType type) {
  switch (type) {
    case TensorType::kF32: return 0;
    case TensorType::kF16: return 1;
    case TensorType::kQ4_0: return 2;
    case TensorType::kQ8_0: return 7;
    case TensorType::kBf16: return 32;
  }
  return 0;
}

int int_value(const GgufMetadata& metadata, const std::string& key, std::int64_t default_value = -1) {
  const std::int64_t value = default_value < 0 ? metadata.integer(key) : metadata.integer(key, default_value);
  if (value >= 0 && value <= std::numeric_limits<int>::max()) return static_cast<int>(value);
  throw Error(Fault::kStorage,
              join(metadata.source_name(), ": the key ", key, " is ", value, ", which is no size of a model"));
}

/// Rows of the embedding. Errors: Fault::kStorage when there are fewer than tokens; more (padding) are allowed.
int embedding_rows(const GgufFile& file) {
  const std::int64_t rows = file.at("token_embd.weight").tensor.rows();
  constexpr const char* kTokens = "tokenizer.ggml.tokens";
  const std::size_t tokens = file.metadata().has(kTokens) ? file.metadata().texts(kTokens).size() : 0;
  if (static_cast<std::size_t>(rows) < tokens)
    throw Error(Fault::kStorage,
                join(file.metadata().source_name(), ": the tokenizer has ", tokens, " tokens, but the embedding only ",
                     rows, " rows; the tokenizer belongs to another model"));
  return static_cast<int>(std::min<std::int64_t>(rows, std::numeric_limits<int>::max()));
}

/// The parameters of llama3's scaling, which its divisors do not determine uniquely.
constexpr const char* kLlama3Key = "slipway.rope_llama3";

/// A field's key, after "<architecture>.", in files of this architecture; empty when there is none.
std::string gguf_key(const SpecField& field, const ModelSpec& model) {
  const std::string_view key = field.gguf;
  if (key == "attention.layer_norm_rms_epsilon" && model.layer_norm) return "attention.layer_norm_epsilon";
  if (key == "rope.freq_base" && model.learned_positions) return "";
  if (key == "attention.key_length" && !family_of(model).has_head_width) return "";
  return std::string(key);
}

std::string format_llama3_parameters(const ModelSpec& model) {
  std::ostringstream text;
  text.precision(17);
  text << model.rope_factor << ' ' << model.rope_low << ' ' << model.rope_high << ' ' << model.rope_original_context;
  return text.str();
}

bool has_divisors(const ModelSpec& model, std::span<const float> expected) {
  const std::vector<float> divisors = model.rope_freq_factors();
  return std::ranges::equal(divisors, expected,
                            [](float a, float b) { return std::fabs(a - b) <= 1e-4f * std::fabs(b); });
}

/// A GGUF stores llama3's scaling as a tensor of divisors. Finds the parameters that give these divisors.
void read_llama3_scaling(const GgufFile& file, ModelSpec& model) {
  const GgufTensor& entry = file.at("rope_freqs.weight");
  std::vector<float> divisors(static_cast<std::size_t>(std::max<std::int64_t>(0, entry.tensor.size())));
  file.read(entry, divisors);
  const bool is_identity = std::ranges::all_of(divisors, [](float d) { return d == 1.0f; });
  if (is_identity && !file.metadata().has(kLlama3Key)) return;
  model.rope_scaling = "llama3";
  std::istringstream text(file.metadata().text(kLlama3Key, ""));
  ModelSpec candidate = model;
  if (text >> candidate.rope_factor >> candidate.rope_low >> candidate.rope_high >> candidate.rope_original_context &&
      has_divisors(candidate, divisors)) {
    model = candidate;
    return;
  }
  model.rope_factor = std::ranges::max(divisors);
  for (model.rope_original_context = 1024; model.rope_original_context <= 1 << 20; model.rope_original_context *= 2)
    if (has_divisors(model, divisors)) return;
  throw Error(Fault::kStorage, join(file.metadata().source_name(),
                                    ": the divisors of RoPE in rope_freqs.weight are not llama3's for any "
                                    "original context; Slipway does not compute them; take a model without"));
}

}  // namespace

GgufMetadata gguf_metadata_of(const ModelSpec& model, TensorType matrix_type) {
  const std::string& architecture = model.architecture;
  GgufMetadata metadata;
  metadata.add("general.architecture", architecture);
  metadata.add("general.type", std::string("model"));
  metadata.add("general.name", model.name);
  metadata.add("general.file_type", file_type(matrix_type));
  metadata.add("general.quantization_version", kQuantizationVersion);
  const ModelSpec& defaults = family_of(model).defaults;
  ModelSpec::fields([&](const SpecField& field, auto member) {
    const std::string key = gguf_key(field, model);
    if (key.empty() || (field.omit_default && model.*member == defaults.*member)) return;
    using Value = std::decay_t<decltype(model.*member)>;
    if constexpr (std::is_same_v<Value, int>)
      metadata.add(architecture + "." + key, static_cast<std::uint32_t>(model.*member));
    else if constexpr (std::is_same_v<Value, double>)
      metadata.add(architecture + "." + key, static_cast<float>(model.*member));
    if (key == "attention.key_length")
      metadata.add(architecture + ".attention.value_length", static_cast<std::uint32_t>(model.head_width));
  });
  if (!model.learned_positions)
    metadata.add(architecture + ".rope.dimension_count", static_cast<std::uint32_t>(model.head_width));
  if (model.rope_scaling == "linear") {
    metadata.add(architecture + ".rope.scaling.type", std::string("linear"));
    metadata.add(architecture + ".rope.scaling.factor", static_cast<float>(model.rope_factor));
  }
  if (model.rope_scaling == "llama3") metadata.add(kLlama3Key, format_llama3_parameters(model));
  for (const auto& [key, value] : model.provenance) metadata.add(std::string(kProvenancePrefix) + key, value);
  return metadata;
}

ModelSpec spec_of(const GgufFile& file) {
  const GgufMetadata& metadata = file.metadata();
  refuse_partial_file(metadata);
  const std::string architecture = metadata.text("general.architecture");
  const ModelFamily* const family = find_family(architecture);
  if (family == nullptr)
    throw Error(Fault::kStorage, join(metadata.source_name(), ": the architecture is '", architecture,
                                      "', but Slipway reads ", family_names()));

  ModelSpec model = family->defaults;
  model.rope_base = ModelSpec().rope_base;  // llama.cpp's default for files without the key
  ModelSpec::fields([&](const SpecField& field, auto member) {
    const std::string key = gguf_key(field, model);
    if (key.empty() || key == "vocab_size" || (field.omit_default && !metadata.has(architecture + "." + key))) return;
    using Value = std::decay_t<decltype(model.*member)>;
    if constexpr (std::is_same_v<Value, int>) {
      const int default_value = key == "attention.head_count_kv" ? model.heads
                                : key == "attention.key_length"  ? model.width / std::max(1, model.heads)
                                                                 : -1;
      model.*member = int_value(metadata, architecture + "." + key, default_value);
    } else if constexpr (std::is_same_v<Value, double>) {
      model.*member = key == "rope.freq_base" ? metadata.real(architecture + "." + key, model.rope_base)
                                              : metadata.real(architecture + "." + key);
    }
  });
  if (model.head_width == 0) model.head_width = model.width / std::max(1, model.heads);
  model.vocabulary = embedding_rows(file);
  model.tied = !file.has("output.weight");
  model.qkv_bias = file.has("blk.0.attn_q.bias") || file.has("blk.0.attn_qkv.bias");
  model.output_bias = file.has("blk.0.attn_output.bias");
  model.qk_norm = file.has("blk.0.attn_q_norm.weight");
  const double factor =
      metadata.real(architecture + ".rope.scaling.factor", metadata.real(architecture + ".rope.scale_linear", 0));
  if (metadata.text(architecture + ".rope.scaling.type", "linear") == "linear" && factor != 0 && factor != 1) {
    model.rope_scaling = "linear";
    model.rope_factor = factor;
  }
  if (file.has("rope_freqs.weight")) read_llama3_scaling(file, model);
  model.name = metadata.text("general.name", "");
  for (const auto& [key, value] : metadata)
    if (const std::string* text = std::get_if<std::string>(&value);
        text != nullptr && key.starts_with(kProvenancePrefix) && key != kLlama3Key)
      model.provenance[key.substr(kProvenancePrefix.size())] = *text;

  model.check(metadata.source_name(), Fault::kStorage);
  refuse_unsupported_features(metadata, model);
  return model;
}

GgufModel::GgufModel(const std::filesystem::path& path) : file_(path), spec_(spec_of(file_)), tensors_(path.string()) {
  for (const GgufTensor& entry : file_.tensors()) tensors_.add(spec_, ModelFormat::kGguf, entry.tensor);
}

/// The stored bytes of a part; the parts of a tensor are contiguous.
std::span<const std::byte> GgufModel::bytes_of_part(const FileTensors::Part& part) const {
  const GgufTensor& entry = file_.at(part.tensor.stored.name);
  const auto type = static_cast<TensorType>(entry.type);
  std::int64_t first_element = 0;
  for (std::size_t i = 0; i < part.index; ++i) first_element += part.tensor.parts[i].size();
  return file_.bytes(entry).subspan(static_cast<std::size_t>(bytes_of(type, first_element)),
                                    static_cast<std::size_t>(bytes_of(type, part.info().size())));
}

void GgufModel::read(const std::string& name, std::span<float> out) const {
  const FileTensors::Part part = tensors_.at(name);
  require(std::ssize(out) == part.info().size(), "GgufModel::read: the span does not fit the tensor");
  const GgufTensor& entry = file_.at(part.tensor.stored.name);
  file_.check_supported(entry);
  decode(static_cast<TensorType>(entry.type), bytes_of_part(part), out);
  if (const int heads = permuted_heads(spec_, name); heads > 0)
    unpermute_rope(out, heads, part.info().shape.size() == 1 ? 1 : part.info().cols());
}

TensorType GgufModel::stored_type(const std::string& name) const {
  const std::optional<FileTensors::Part> found = tensors_.find(name);
  return found ? static_cast<TensorType>(file_.at(found->tensor.stored.name).type) : TensorType::kF32;
}

void GgufModel::read_stored(const std::string& name, std::span<std::byte> out) const {
  const FileTensors::Part part = tensors_.at(name);
  const std::span<const std::byte> stored = bytes_of_part(part);
  require(out.size() == stored.size(), "GgufModel::read_stored: the span does not fit the tensor");
  std::ranges::copy(stored, out.begin());
  if (const int heads = permuted_heads(spec_, name); heads > 0)
    unpermute_rope(out, heads, static_cast<std::int64_t>(out.size()) / part.info().rows());
}

}  // namespace slipway
