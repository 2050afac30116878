#include "io/model/tensor_layout.hpp"

#include <algorithm>
#include <charconv>
#include <string_view>

namespace slipway {
namespace {

/// The names of a tensor. Canonical names are GGUF's, but for tensors that a GGUF keeps as one.
struct Names {
  std::string_view canonical, hugging_face;
  bool transposed = false;  ///< in a Hugging Face folder
};
/// The names of a family's tensors: those outside of the layers, and those behind "blk.N.".
struct NameTable {
  std::span<const Names> outside, inside;
  std::string_view hugging_face_layer;  ///< what stands before a layer's number
};

// llama, qwen2 and qwen3 share one table: a family that lacks a part lacks its tensor.
constexpr Names kLlamaOutside[] = {{"token_embd.weight", "model.embed_tokens.weight"},
                                   {"output_norm.weight", "model.norm.weight"},
                                   {"output.weight", "lm_head.weight"}};
constexpr Names kLlamaInside[] = {
    {"attn_norm.weight", "input_layernorm.weight"},    {"attn_q.weight", "self_attn.q_proj.weight"},
    {"attn_k.weight", "self_attn.k_proj.weight"},      {"attn_v.weight", "self_attn.v_proj.weight"},
    {"attn_q.bias", "self_attn.q_proj.bias"},          {"attn_k.bias", "self_attn.k_proj.bias"},
    {"attn_v.bias", "self_attn.v_proj.bias"},          {"attn_q_norm.weight", "self_attn.q_norm.weight"},
    {"attn_k_norm.weight", "self_attn.k_norm.weight"}, {"attn_output.weight", "self_attn.o_proj.weight"},
    {"attn_output.bias", "self_attn.o_proj.bias"},     {"ffn_norm.weight", "post_attention_layernorm.weight"},
    {"ffn_gate.weight", "mlp.gate_proj.weight"},       {"ffn_up.weight", "mlp.up_proj.weight"},
    {"ffn_down.weight", "mlp.down_proj.weight"}};
constexpr Names kGpt2Outside[] = {{"token_embd.weight", "transformer.wte.weight"},
                                  {"position_embd.weight", "transformer.wpe.weight"},
                                  {"output_norm.weight", "transformer.ln_f.weight"},
                                  {"output_norm.bias", "transformer.ln_f.bias"},
                                  {"output.weight", "lm_head.weight"}};
constexpr Names kGpt2Inside[] = {{"attn_norm.weight", "ln_1.weight"},
                                 {"attn_norm.bias", "ln_1.bias"},
                                 {"attn_qkv.weight", "attn.c_attn.weight", true},
                                 {"attn_qkv.bias", "attn.c_attn.bias"},
                                 {"attn_output.weight", "attn.c_proj.weight", true},
                                 {"attn_output.bias", "attn.c_proj.bias"},
                                 {"ffn_norm.weight", "ln_2.weight"},
                                 {"ffn_norm.bias", "ln_2.bias"},
                                 {"ffn_up.weight", "mlp.c_fc.weight", true},
                                 {"ffn_up.bias", "mlp.c_fc.bias"},
                                 {"ffn_down.weight", "mlp.c_proj.weight", true},
                                 {"ffn_down.bias", "mlp.c_proj.bias"}};
constexpr NameTable kLlamaNames{kLlamaOutside, kLlamaInside, "model.layers."};
constexpr NameTable kGpt2Names{kGpt2Outside, kGpt2Inside, "transformer.h."};
constexpr std::string_view kCanonicalLayer = "blk.";

/// Families whose files keep q, k and v as one tensor.
bool is_fused(const ModelSpec& model) { return model.architecture == "gpt2"; }
const NameTable& names_of(const ModelSpec& model) { return is_fused(model) ? kGpt2Names : kLlamaNames; }

/// A name in its two parts: a layer's number (-1 outside of the layers), and what stands behind it.
struct Split {
  int layer = -1;
  std::string_view rest;
};
Split split_layer(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return {-1, name};
  const std::string_view behind = name.substr(prefix.size());
  const std::size_t dot = behind.find('.');
  int layer = -1;
  const char* const last = behind.data() + std::min(dot, behind.size());
  const auto [end, reason] = std::from_chars(behind.data(), last, layer);
  if (dot == std::string_view::npos || reason != std::errc{} || end != last || layer < 0) return {-1, name};
  return {layer, behind.substr(dot + 1)};
}

const Names* find_names(const NameTable& table, const Split& name, std::string_view Names::*column) {
  for (const Names& one : name.layer < 0 ? table.outside : table.inside)
    if (one.*column == name.rest) return &one;
  return nullptr;
}

std::string in_layer(std::string_view prefix, int layer, std::string_view rest) {
  return layer < 0 ? std::string(rest) : join(prefix, layer, ".", rest);
}

/// A name of a file's, for a message.
std::string in_one_line(std::string name) {
  std::ranges::replace_if(
      name, [](unsigned char c) { return c < ' ' || c == 0x7f; }, '?');
  return name;
}

NamedTensor with_rows(std::string name, const NamedTensor& like, std::int64_t rows) {
  NamedTensor tensor{std::move(name), like.shape};
  tensor.shape.front() = rows;
  return tensor;
}

/// Moves row `from(head row)` of each head to its place, head by head.
template <class T, class From>
void reorder_rows(std::span<T> values, int heads, std::int64_t cols, From&& from) {
  const auto rows = static_cast<std::int64_t>(values.size()) / cols;
  require(heads > 0 && rows % heads == 0 && (rows / heads) % 2 == 0, "reorder_rows: the rows are no even heads");
  const std::int64_t head_width = rows / heads;
  std::vector<T> head(static_cast<std::size_t>(head_width * cols));
  for (int h = 0; h < heads; ++h) {
    T* place = values.data() + h * head_width * cols;
    std::copy_n(place, head.size(), head.data());
    for (std::int64_t r = 0; r < head_width; ++r)
      std::copy_n(head.data() + from(r, head_width) * cols, cols, place + r * cols);
  }
}

/// Where row r of a head in halves stands among neighbours.
std::int64_t separated(std::int64_t r, std::int64_t width) { return r < width / 2 ? 2 * r : 2 * (r - width / 2) + 1; }

}  // namespace

std::vector<FileTensor> to_file_tensors(const ModelSpec& model, ModelFormat format,
                                        std::span<const NamedTensor> tensors) {
  const NameTable& table = names_of(model);
  std::vector<FileTensor> result;
  for (const NamedTensor& tensor : tensors) {
    const Split canonical = split_layer(tensor.name, kCanonicalLayer);
    std::string rest(canonical.rest);
    bool joins_last = false;
    if (is_fused(model) && canonical.layer >= 0)
      for (const std::string_view part : {"attn_q.", "attn_k.", "attn_v."})
        if (rest.starts_with(part)) joins_last = part != "attn_q.", rest = "attn_qkv." + rest.substr(part.size());
    const Names* const names = find_names(table, {canonical.layer, rest}, &Names::canonical);
    require(names != nullptr, join("to_file_tensors: ", model.architecture, " has no tensor ", tensor.name));
    std::string stored = format == ModelFormat::kGguf
                             ? in_layer(kCanonicalLayer, canonical.layer, rest)
                             : in_layer(table.hugging_face_layer, canonical.layer, names->hugging_face);
    if (joins_last) {  // weights and biases alternate: the tensor that it belongs to may not be the last one
      const auto whole = std::ranges::find_if(result.rbegin(), result.rend(),
                                              [&](const FileTensor& one) { return one.stored.name == stored; });
      require(whole != result.rend(), join("to_file_tensors: ", tensor.name, " has no q before it"));
      whole->parts.push_back(tensor);
      whole->stored.shape[whole->transposed ? 1 : 0] += tensor.shape.front();
      continue;
    }
    FileTensor one{{std::move(stored), tensor.shape}, {tensor}};
    one.transposed = names->transposed && format == ModelFormat::kHuggingFace;
    if (one.transposed) std::swap(one.stored.shape[0], one.stored.shape[1]);
    result.push_back(std::move(one));
  }
  return result;
}

FileTensor from_file_tensor(const ModelSpec& model, ModelFormat format, const NamedTensor& stored) {
  const NameTable& table = names_of(model);
  const bool gguf = format == ModelFormat::kGguf;
  if (gguf && stored.name == "rope_freqs.weight") return {stored, {}};
  std::string full = stored.name;
  if (!gguf && is_fused(model) && !full.starts_with("transformer.") && full != "lm_head.weight")
    full = "transformer." + full;  // as GPT-2 itself was published
  const Split split = split_layer(full, gguf ? kCanonicalLayer : table.hugging_face_layer);
  const bool computed = is_fused(model) ? split.rest == "attn.bias" || split.rest == "attn.masked_bias"
                                        : split.rest == "self_attn.rotary_emb.inv_freq";
  if (!gguf && computed) return {stored, {}};  // masks, and RoPE's frequencies, of older folders
  const Names* const names = find_names(table, split, gguf ? &Names::canonical : &Names::hugging_face);
  if (names == nullptr)
    throw Error(Fault::kStorage,
                join("the tensor ", in_one_line(stored.name), " has no place in a ", model.architecture,
                     " model as Slipway computes it; leaving it out would give wrong numbers"));
  FileTensor one{stored, {}, names->transposed && !gguf};
  NamedTensor whole = stored;
  if (one.transposed) {
    if (whole.shape.size() != 2)
      throw Error(Fault::kStorage, join("the tensor ", in_one_line(stored.name), " has ", whole.shape.size(),
                                        whole.shape.size() == 1 ? " axis" : " axes", ", expected a matrix"));
    std::swap(whole.shape[0], whole.shape[1]);
  }
  constexpr std::string_view kFused = "attn_qkv.";
  if (!names->canonical.starts_with(kFused)) {
    whole.name = in_layer(kCanonicalLayer, split.layer, names->canonical);
    one.parts = {std::move(whole)};
    return one;
  }
  const std::int64_t q = model.query_width(), kv = model.kv_width();
  if (whole.shape.front() != q + 2 * kv)
    throw Error(Fault::kStorage, join("the tensor ", in_one_line(stored.name), " has ", whole.shape.front(),
                                      " outputs, expected ", q + 2 * kv, " for q, k and v"));
  const std::string_view what = names->canonical.substr(kFused.size());
  for (const auto& [part, rows] : {std::pair{"attn_q.", q}, {"attn_k.", kv}, {"attn_v.", kv}})
    one.parts.push_back(with_rows(in_layer(kCanonicalLayer, split.layer, join(part, what)), whole, rows));
  return one;
}

namespace {

/// Calls `act(index in the part, index in the stored tensor)` for every element of a part.
template <class Act>
void for_each_element(const FileTensor& tensor, std::size_t index, const Act& act) {
  std::int64_t first = 0;
  for (std::size_t i = 0; i < index; ++i) first += tensor.parts[i].shape.front();
  const NamedTensor& part = tensor.parts[index];
  const std::int64_t rows = part.rows(), cols = part.cols();
  if (!tensor.transposed) {
    const std::int64_t offset = part.shape.size() == 1 ? first : first * cols;
    for (std::int64_t i = 0; i < part.size(); ++i) act(i, offset + i);
    return;
  }
  const std::int64_t stride = tensor.stored.cols();
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c) act(r * cols + c, c * stride + first + r);
}

}  // namespace

void take_part(const FileTensor& tensor, std::size_t index, std::span<const float> stored, std::span<float> out) {
  require(std::ssize(out) == tensor.parts[index].size() && std::ssize(stored) == tensor.stored.size(),
          "take_part: the spans do not fit the tensor");
  for_each_element(tensor, index, [&](std::int64_t at, std::int64_t from) { out[at] = stored[from]; });
}

void put_part(const FileTensor& tensor, std::size_t index, std::span<const float> part, std::span<float> stored) {
  require(std::ssize(part) == tensor.parts[index].size() && std::ssize(stored) == tensor.stored.size(),
          "put_part: the spans do not fit the tensor");
  for_each_element(tensor, index, [&](std::int64_t at, std::int64_t to) { stored[to] = part[at]; });
}

void FileTensors::add(const ModelSpec& model, ModelFormat format, const NamedTensor& stored) {
  FileTensor tensor;
  try {
    tensor = from_file_tensor(model, format, stored);
  } catch (const Error& error) {
    throw Error(Fault::kStorage, join(called_, ": ", error.what()));
  }
  if (model.tied && !tensor.parts.empty() && tensor.parts.front().name == "output.weight") return;
  for (std::size_t part = 0; part < tensor.parts.size(); ++part) {
    places_[tensor.parts[part].name] = {tensors_.size(), part};
    canonical_.push_back(tensor.parts[part]);
  }
  tensors_.push_back(std::move(tensor));
}

std::optional<FileTensors::Part> FileTensors::find(const std::string& name) const {
  const auto found = places_.find(name);
  if (found == places_.end()) return std::nullopt;
  return Part{tensors_[found->second.tensor], found->second.part};
}

FileTensors::Part FileTensors::at(const std::string& name) const {
  const std::optional<Part> found = find(name);
  if (!found) throw Error(Fault::kStorage, join(called_, ": the tensor ", name, " is missing"));
  return *found;
}

int permuted_heads(const ModelSpec& model, const std::string& name) {
  if (model.architecture != "llama") return 0;
  if (name.ends_with(".attn_q.weight") || name.ends_with(".attn_q.bias")) return model.heads;
  if (name.ends_with(".attn_k.weight") || name.ends_with(".attn_k.bias")) return model.kv_heads;
  return 0;
}

void permute_rope(std::span<float> values, int heads, std::int64_t cols) {
  reorder_rows(values, heads, cols, [](std::int64_t r, std::int64_t width) { return r / 2 + (r % 2) * (width / 2); });
}

void unpermute_rope(std::span<float> values, int heads, std::int64_t cols) {
  reorder_rows(values, heads, cols, separated);
}

void unpermute_rope(std::span<std::byte> values, int heads, std::int64_t cols) {
  reorder_rows(values, heads, cols, separated);
}

}  // namespace slipway
