#include "io/model/tensor_layout.hpp"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "io/model/model_family.hpp"

namespace slipway {
namespace {

constexpr std::string_view kCanonicalLayer = "blk.";

/// A tensor name, split into the layer's number (-1 outside of the layers) and the rest.
struct ParsedName {
  int layer = -1;
  std::string_view rest;
};
ParsedName split_layer(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return {-1, name};
  const std::string_view behind = name.substr(prefix.size());
  const std::size_t dot = behind.find('.');
  int layer = -1;
  const char* const last = behind.data() + std::min(dot, behind.size());
  const auto [end, reason] = std::from_chars(behind.data(), last, layer);
  const bool is_number = dot != std::string_view::npos && reason == std::errc{} && end == last && layer >= 0;
  if (!is_number || (dot > 1 && behind.front() == '0')) return {-1, name};
  return {layer, behind.substr(dot + 1)};
}

const TensorNames* find_names(const FileNames& table, const ParsedName& name, std::string_view TensorNames::*column) {
  for (const TensorNames& one : name.layer < 0 ? table.outside : table.inside)
    if (one.*column == name.rest) return &one;
  return nullptr;
}

std::string in_layer(std::string_view prefix, int layer, std::string_view rest) {
  return layer < 0 ? std::string(rest) : join(prefix, layer, ".", rest);
}

/// A name from a file, for an error message: control characters replaced.
std::string in_one_line(std::string name) {
  std::ranges::replace_if(
      name, [](unsigned char c) { return c < ' ' || c == 0x7f; }, '?');
  return name;
}

TensorInfo with_rows(std::string name, const TensorInfo& like, std::int64_t rows) {
  TensorInfo tensor{std::move(name), like.shape};
  tensor.shape.front() = rows;
  return tensor;
}

/// Reorders the rows of each head: row r of the result is row `from(r, head width)` of the input.
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

/// The row in interleaved order (pairs 2j, 2j + 1) of row r in half order (pairs j, j + width / 2).
std::int64_t interleaved_row(std::int64_t r, std::int64_t width) {
  return r < width / 2 ? 2 * r : 2 * (r - width / 2) + 1;
}

}  // namespace

std::vector<FileTensor> to_file_tensors(const ModelSpec& model, ModelFormat format,
                                        std::span<const TensorInfo> tensors) {
  const ModelFamily& family = family_of(model);
  const FileNames& table = *family.names;
  std::vector<FileTensor> result;
  for (const TensorInfo& tensor : tensors) {
    const ParsedName canonical = split_layer(tensor.name, kCanonicalLayer);
    std::string rest(canonical.rest);
    bool joins_last = false;
    if (family.fuses_qkv && canonical.layer >= 0)
      for (const std::string_view part : {"attn_q.", "attn_k.", "attn_v."})
        if (rest.starts_with(part)) joins_last = part != "attn_q.", rest = "attn_qkv." + rest.substr(part.size());
    const TensorNames* const names = find_names(table, {canonical.layer, rest}, &TensorNames::canonical);
    require(names != nullptr, join("to_file_tensors: ", model.architecture, " has no tensor ", tensor.name));
    std::string stored = format == ModelFormat::kGguf
                             ? in_layer(kCanonicalLayer, canonical.layer, rest)
                             : in_layer(table.hugging_face_layer, canonical.layer, names->hugging_face);
    if (joins_last) {  // weights and biases alternate: the fused tensor may not be the last one
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

FileTensor to_canonical_tensors(const ModelSpec& model, ModelFormat format, const TensorInfo& stored) {
  const ModelFamily& family = family_of(model);
  const FileNames& table = *family.names;
  const bool gguf = format == ModelFormat::kGguf;
  if (gguf && stored.name == "rope_freqs.weight") return {stored, {}};
  std::string full = stored.name;
  if (!gguf && !full.starts_with(table.hugging_face_prefix) && full != "lm_head.weight")
    full = join(table.hugging_face_prefix, full);  // as GPT-2 itself was published
  const ParsedName split = split_layer(full, gguf ? kCanonicalLayer : table.hugging_face_layer);
  if (!gguf && std::ranges::find(table.computed, split.rest) != table.computed.end()) return {stored, {}};
  const TensorNames* const names =
      find_names(table, split, gguf ? &TensorNames::canonical : &TensorNames::hugging_face);
  if (names == nullptr)
    throw Error(Fault::kStorage,
                join("the tensor ", in_one_line(stored.name), " has no place in a ", model.architecture,
                     " model as Slipway computes it; leaving it out would give wrong numbers"));
  FileTensor one{stored, {}, names->transposed && !gguf};
  TensorInfo whole = stored;
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

/// Calls `fn(index in the part, index in the stored tensor)` for every element of a part.
template <class Fn>
void for_each_element(const FileTensor& tensor, std::size_t index, const Fn& fn) {
  std::int64_t first = 0;
  for (std::size_t i = 0; i < index; ++i) first += tensor.parts[i].shape.front();
  const TensorInfo& part = tensor.parts[index];
  const std::int64_t rows = part.rows(), cols = part.cols();
  if (!tensor.transposed) {
    const std::int64_t offset = part.shape.size() == 1 ? first : first * cols;
    for (std::int64_t i = 0; i < part.size(); ++i) fn(i, offset + i);
    return;
  }
  const std::int64_t stride = tensor.stored.cols();
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c) fn(r * cols + c, c * stride + first + r);
}

}  // namespace

void extract_part(const FileTensor& tensor, std::size_t index, std::span<const float> stored, std::span<float> out) {
  require(std::ssize(out) == tensor.parts[index].size() && std::ssize(stored) == tensor.stored.size(),
          "extract_part: the spans do not fit the tensor");
  for_each_element(tensor, index, [&](std::int64_t at, std::int64_t from) { out[at] = stored[from]; });
}

void insert_part(const FileTensor& tensor, std::size_t index, std::span<const float> part, std::span<float> stored) {
  require(std::ssize(part) == tensor.parts[index].size() && std::ssize(stored) == tensor.stored.size(),
          "insert_part: the spans do not fit the tensor");
  for_each_element(tensor, index, [&](std::int64_t at, std::int64_t to) { stored[to] = part[at]; });
}

bool FileTensors::add(const ModelSpec& model, ModelFormat format, const TensorInfo& stored) {
  FileTensor tensor;
  try {
    tensor = to_canonical_tensors(model, format, stored);
  } catch (const Error& error) {
    throw Error(Fault::kStorage, join(file_name_, ": ", error.what()));
  }
  if (model.tied && !tensor.parts.empty() && tensor.parts.front().name == "output.weight") return false;
  for (std::size_t part = 0; part < tensor.parts.size(); ++part) {
    const auto [known, added] = locations_.try_emplace(tensor.parts[part].name, Location{tensors_.size(), part});
    if (!added)
      throw Error(Fault::kStorage,
                  join(file_name_, ": the tensors ", in_one_line(tensors_[known->second.tensor].stored.name), " and ",
                       in_one_line(stored.name), " are the same part of the model; remove the one that is not meant"));
    canonical_.push_back(tensor.parts[part]);
  }
  tensors_.push_back(std::move(tensor));
  return !tensors_.back().parts.empty();
}

std::optional<FileTensors::Part> FileTensors::find(const std::string& name) const {
  const auto found = locations_.find(name);
  if (found == locations_.end()) return std::nullopt;
  return Part{tensors_[found->second.tensor], found->second.part};
}

FileTensors::Part FileTensors::at(const std::string& name) const {
  const std::optional<Part> found = find(name);
  if (!found) throw Error(Fault::kStorage, join(file_name_, ": the tensor ", name, " is missing"));
  return *found;
}

int permuted_heads(const ModelSpec& model, const std::string& name) {
  if (!family_of(model).permutes_rope) return 0;
  if (name.ends_with(".attn_q.weight") || name.ends_with(".attn_q.bias")) return model.heads;
  if (name.ends_with(".attn_k.weight") || name.ends_with(".attn_k.bias")) return model.kv_heads;
  return 0;
}

void permute_rope(std::span<float> values, int heads, std::int64_t cols) {
  reorder_rows(values, heads, cols, [](std::int64_t r, std::int64_t width) { return r / 2 + (r % 2) * (width / 2); });
}

void unpermute_rope(std::span<float> values, int heads, std::int64_t cols) {
  reorder_rows(values, heads, cols, interleaved_row);
}

void unpermute_rope(std::span<std::byte> values, int heads, std::int64_t cols) {
  reorder_rows(values, heads, cols, interleaved_row);
}

}  // namespace slipway
