#include "io/tensor_names.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>
#include <utility>

namespace slipway {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;  // GGUF, Hugging Face

// llama, qwen2 and qwen3 share one table: a family that lacks a part lacks its tensor.
constexpr std::array<Pair, 3> kOutside = {{{"token_embd.weight", "model.embed_tokens.weight"},
                                           {"output_norm.weight", "model.norm.weight"},
                                           {"output.weight", "lm_head.weight"}}};
constexpr std::array<Pair, 14> kInside = {{{"attn_norm.weight", "input_layernorm.weight"},
                                           {"attn_q.weight", "self_attn.q_proj.weight"},
                                           {"attn_k.weight", "self_attn.k_proj.weight"},
                                           {"attn_v.weight", "self_attn.v_proj.weight"},
                                           {"attn_q.bias", "self_attn.q_proj.bias"},
                                           {"attn_k.bias", "self_attn.k_proj.bias"},
                                           {"attn_v.bias", "self_attn.v_proj.bias"},
                                           {"attn_q_norm.weight", "self_attn.q_norm.weight"},
                                           {"attn_k_norm.weight", "self_attn.k_norm.weight"},
                                           {"attn_output.weight", "self_attn.o_proj.weight"},
                                           {"ffn_norm.weight", "post_attention_layernorm.weight"},
                                           {"ffn_gate.weight", "mlp.gate_proj.weight"},
                                           {"ffn_up.weight", "mlp.up_proj.weight"},
                                           {"ffn_down.weight", "mlp.down_proj.weight"}}};
constexpr Pair kLayer = {"blk.", "model.layers."};

/// Translates by the column `from` into the column `to`; empty when the name is in neither part of the table.
std::string translate(std::string_view name, std::string_view Pair::*from, std::string_view Pair::*to) {
  for (const Pair& pair : kOutside)
    if (pair.*from == name) return std::string(pair.*to);
  if (!name.starts_with(kLayer.*from)) return {};
  name.remove_prefix((kLayer.*from).size());
  const std::size_t dot = name.find('.');
  if (dot == std::string_view::npos) return {};
  const std::string_view layer = name.substr(0, dot);
  int number = -1;
  const auto [end, reason] = std::from_chars(layer.data(), layer.data() + layer.size(), number);
  if (reason != std::errc{} || end != layer.data() + layer.size() || number < 0) return {};
  for (const Pair& pair : kInside)
    if (pair.*from == name.substr(dot + 1)) return join(kLayer.*to, number, ".", pair.*to);
  return {};
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

std::vector<NamedTensor> tensors_of(const ModelDescription& model) {
  const std::int64_t width = model.width, queries = std::int64_t{model.heads} * model.head_width,
                     keys = std::int64_t{model.kv_heads} * model.head_width, ffn = model.ffn;
  std::vector<NamedTensor> all;
  all.push_back({"token_embd.weight", {model.vocabulary, width}});
  for (int layer = 0; layer < model.layers; ++layer) {
    const auto add = [&](std::string_view part, std::vector<std::int64_t> shape) {
      all.push_back({join("blk.", layer, ".", part), std::move(shape)});
    };
    add("attn_norm.weight", {width});
    add("attn_q.weight", {queries, width});
    add("attn_k.weight", {keys, width});
    add("attn_v.weight", {keys, width});
    if (model.qkv_bias) {
      add("attn_q.bias", {queries});
      add("attn_k.bias", {keys});
      add("attn_v.bias", {keys});
    }
    if (model.qk_norm) {
      add("attn_q_norm.weight", {model.head_width});
      add("attn_k_norm.weight", {model.head_width});
    }
    add("attn_output.weight", {width, queries});
    add("ffn_norm.weight", {width});
    add("ffn_gate.weight", {ffn, width});
    add("ffn_up.weight", {ffn, width});
    add("ffn_down.weight", {width, ffn});
  }
  all.push_back({"output_norm.weight", {width}});
  if (!model.tied) all.push_back({"output.weight", {model.vocabulary, width}});
  return all;
}

std::string hugging_face_name(const std::string& name) {
  std::string found = translate(name, &Pair::first, &Pair::second);
  require(!found.empty(), join("hugging_face_name: no family has a tensor ", name));
  return found;
}

std::string gguf_name(const std::string& name) {
  std::string found = translate(name, &Pair::second, &Pair::first);
  if (found.empty())
    throw Error(Fault::kStorage, join("the tensor ", name,
                                      " belongs to none of llama, qwen2 and qwen3; convert a model of these families"));
  return found;
}

int permuted_heads(const ModelDescription& model, const std::string& name) {
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
