#include "io/model/tensor_layout.hpp"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "io/model/model_family.hpp"

namespace slipway {
namespace {

constexpr std::string_view kCanonicalLayerPrefix = "blk.";

/// A tensor name, split into the layer's number (-1 outside of the layers) and the rest.
struct ParsedName {
  int layer = -1;
  std::string_view suffix;
};
ParsedName split_layer(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return {-1, name};
  const std::string_view after_prefix = name.substr(prefix.size());
  const std::size_t dot = after_prefix.find('.');
  int layer = -1;
  const char* const digits_end = after_prefix.data() + std::min(dot, after_prefix.size());
  const auto [end, error] = std::from_chars(after_prefix.data(), digits_end, layer);
  const bool is_number = dot != std::string_view::npos && error == std::errc{} && end == digits_end && layer >= 0;
  if (!is_number || (dot > 1 && after_prefix.front() == '0')) return {-1, name};
  return {layer, after_prefix.substr(dot + 1)};
}

const TensorNames* find_names(const FileNames& table, const ParsedName& name, std::string_view TensorNames::*column) {
  for (const TensorNames& names : name.layer < 0 ? table.non_layer_tensors : table.layer_tensors)
    if (names.*column == name.suffix) return &names;
  return nullptr;
}

std::string with_layer_prefix(std::string_view prefix, int layer, std::string_view suffix) {
  return layer < 0 ? std::string(suffix) : join(prefix, layer, ".", suffix);
}

/// A name from a file, for an error message: control characters replaced.
std::string replace_control_characters(std::string name) {
  std::ranges::replace_if(
      name, [](unsigned char c) { return c < ' ' || c == 0x7f; }, '?');
  return name;
}

TensorInfo with_rows(std::string name, const TensorInfo& like, std::int64_t rows) {
  TensorInfo tensor{std::move(name), like.shape};
  tensor.shape.front() = rows;
  return tensor;
}

/// Reorders the rows of each head: row r of the result is row `source_row(r, head_width)` of the input.
template <class T, class SourceRow>
void reorder_rows(std::span<T> values, int heads, std::int64_t cols, SourceRow&& source_row) {
  const auto rows = static_cast<std::int64_t>(values.size()) / cols;
  require(heads > 0 && rows % heads == 0 && (rows / heads) % 2 == 0, "reorder_rows: the rows are no even heads");
  const std::int64_t head_width = rows / heads;
  std::vector<T> head_copy(static_cast<std::size_t>(head_width * cols));
  for (int h = 0; h < heads; ++h) {
    T* head_rows = values.data() + h * head_width * cols;
    std::copy_n(head_rows, head_copy.size(), head_copy.data());
    for (std::int64_t r = 0; r < head_width; ++r)
      std::copy_n(head_copy.data() + source_row(r, head_width) * cols, cols, head_rows + r * cols);
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
    const ParsedName canonical = split_layer(tensor.name, kCanonicalLayerPrefix);
    std::string suffix(canonical.suffix);
    bool append_to_fused = false;
    if (family.fuses_qkv && canonical.layer >= 0)
      for (const std::string_view part : {"attn_q.", "attn_k.", "attn_v."})
        if (suffix.starts_with(part))
          append_to_fused = part != "attn_q.", suffix = "attn_qkv." + suffix.substr(part.size());
    const TensorNames* const names = find_names(table, {canonical.layer, suffix}, &TensorNames::canonical);
    require(names != nullptr, join("to_file_tensors: ", model.architecture, " has no tensor ", tensor.name));
    std::string stored = format == ModelFormat::kGguf
                             ? with_layer_prefix(kCanonicalLayerPrefix, canonical.layer, suffix)
                             : with_layer_prefix(table.hugging_face_layer_prefix, canonical.layer, names->hugging_face);
    if (append_to_fused) {  // weights and biases alternate: the fused tensor may not be the last one
      const auto fused = std::ranges::find_if(result.rbegin(), result.rend(), [&](const FileTensor& file_tensor) {
        return file_tensor.stored.name == stored;
      });
      require(fused != result.rend(), join("to_file_tensors: ", tensor.name, " has no q before it"));
      fused->parts.push_back(tensor);
      fused->stored.shape[fused->transposed ? 1 : 0] += tensor.shape.front();
      continue;
    }
    FileTensor file_tensor{{std::move(stored), tensor.shape}, {tensor}};
    file_tensor.transposed = names->transposed && format == ModelFormat::kHuggingFace;
    if (file_tensor.transposed) std::swap(file_tensor.stored.shape[0], file_tensor.stored.shape[1]);
    result.push_back(std::move(file_tensor));
  }
  return result;
}

FileTensor to_canonical_tensors(const ModelSpec& model, ModelFormat format, const TensorInfo& stored) {
  const ModelFamily& family = family_of(model);
  const FileNames& table = *family.names;
  const bool gguf = format == ModelFormat::kGguf;
  if (gguf && stored.name == "rope_freqs.weight") return {stored, {}};
  std::string full_name = stored.name;
  if (!gguf && !full_name.starts_with(table.base_model_prefix) && full_name != "lm_head.weight")
    full_name = join(table.base_model_prefix, full_name);  // as GPT-2 itself was published
  const ParsedName parsed = split_layer(full_name, gguf ? kCanonicalLayerPrefix : table.hugging_face_layer_prefix);
  if (!gguf && std::ranges::find(table.ignored_buffers, parsed.suffix) != table.ignored_buffers.end())
    return {stored, {}};
  const TensorNames* const names =
      find_names(table, parsed, gguf ? &TensorNames::canonical : &TensorNames::hugging_face);
  if (names == nullptr)
    throw Error(Fault::kStorage,
                join("the tensor ", replace_control_characters(stored.name), " has no place in a ", model.architecture,
                     " model as Slipway computes it; leaving it out would give wrong numbers"));
  FileTensor result{stored, {}, names->transposed && !gguf};
  TensorInfo untransposed = stored;
  if (result.transposed) {
    if (untransposed.shape.size() != 2)
      throw Error(Fault::kStorage,
                  join("the tensor ", replace_control_characters(stored.name), " has ", untransposed.shape.size(),
                       untransposed.shape.size() == 1 ? " axis" : " axes", ", expected a matrix"));
    std::swap(untransposed.shape[0], untransposed.shape[1]);
  }
  constexpr std::string_view kFused = "attn_qkv.";
  if (!names->canonical.starts_with(kFused)) {
    untransposed.name = with_layer_prefix(kCanonicalLayerPrefix, parsed.layer, names->canonical);
    result.parts = {std::move(untransposed)};
    return result;
  }
  const std::int64_t q = model.query_width(), kv = model.kv_width();
  if (untransposed.shape.front() != q + 2 * kv)
    throw Error(Fault::kStorage,
                join("the tensor ", replace_control_characters(stored.name), " has ", untransposed.shape.front(),
                     " outputs, expected ", q + 2 * kv, " for q, k and v"));
  const std::string_view parameter = names->canonical.substr(kFused.size());
  for (const auto& [part, rows] : {std::pair{"attn_q.", q}, {"attn_k.", kv}, {"attn_v.", kv}})
    result.parts.push_back(
        with_rows(with_layer_prefix(kCanonicalLayerPrefix, parsed.layer, join(part, parameter)), untransposed, rows));
  return result;
}

namespace {

/// Calls `fn(index in the part, index in the stored tensor)` for every element of a part.
template <class Fn>
void for_each_element(const FileTensor& tensor, std::size_t index, const Fn& fn) {
  std::int64_t first_row = 0;
  for (std::size_t i = 0; i < index; ++i) first_row += tensor.parts[i].shape.front();
  const TensorInfo& part = tensor.parts[index];
  const std::int64_t rows = part.rows(), cols = part.cols();
  if (!tensor.transposed) {
    const std::int64_t offset = part.shape.size() == 1 ? first_row : first_row * cols;
    for (std::int64_t i = 0; i < part.size(); ++i) fn(i, offset + i);
    return;
  }
  const std::int64_t stride = tensor.stored.cols();
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c) fn(r * cols + c, c * stride + first_row + r);
}

}  // namespace

void extract_part(const FileTensor& tensor, std::size_t index, std::span<const float> stored, std::span<float> out) {
  require(std::ssize(out) == tensor.parts[index].size() && std::ssize(stored) == tensor.stored.size(),
          "extract_part: the spans do not fit the tensor");
  for_each_element(tensor, index,
                   [&](std::int64_t part_index, std::int64_t stored_index) { out[part_index] = stored[stored_index]; });
}

void insert_part(const FileTensor& tensor, std::size_t index, std::span<const float> part, std::span<float> stored) {
  require(std::ssize(part) == tensor.parts[index].size() && std::ssize(stored) == tensor.stored.size(),
          "insert_part: the spans do not fit the tensor");
  for_each_element(tensor, index, [&](std::int64_t part_index, std::int64_t stored_index) {
    stored[stored_index] = part[part_index];
  });
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
    const auto [existing, inserted] = locations_.try_emplace(tensor.parts[part].name, Location{tensors_.size(), part});
    if (!inserted)
      throw Error(Fault::kStorage, join(file_name_, ": the tensors ",
                                        replace_control_characters(tensors_[existing->second.tensor].stored.name),
                                        " and ", replace_control_characters(stored.name),
                                        " are the same part of the model; remove the one that is not meant"));
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
