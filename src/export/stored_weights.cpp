#include "src/export/stored_weights.hpp"

#include <algorithm>
#include <cmath>
#include <exception>
#include <map>
#include <type_traits>

#include "io/model/tensor_layout.hpp"
#include "src/core/hash.hpp"
#include "src/core/words.hpp"
#include "src/model/model_tensors.hpp"

namespace slipway {
namespace {

constexpr std::size_t kChunkElements = 1 << 16;  // a thread encodes: a multiple of the block size, fits its cache

/// The nearest f32. The volatile store is there because GCC 12 drops the casts double -> float -> double when it
/// vectorizes two of them.
double round_to_f32(double value) {
  const volatile float rounded = static_cast<float>(value);
  return rounded;
}

/// The index of the first value that a type with this largest magnitude cannot represent; values.size() when all fit.
std::size_t find_first_out_of_range(std::span<const float> values, float largest) {
  const auto is_out_of_range = [largest](float value) { return !(std::fabs(value) <= largest); };  // true for NaN
  int any_out_of_range = 0;
  for (const float value : values)
    any_out_of_range |= static_cast<int>(is_out_of_range(value));  // branch-free, so that it vectorizes
  if (any_out_of_range == 0) return values.size();
  return static_cast<std::size_t>(std::find_if(values.begin(), values.end(), is_out_of_range) - values.begin());
}

[[noreturn]] void throw_unrepresentable(const TensorInfo& tensor, TensorType type, std::int64_t index, float value) {
  const std::string element =
      join(tensor.name, "[", index / tensor.cols(), ", ", index % tensor.cols(), "] is ", value);
  if (std::isfinite(value))
    throw Error(Fault::kNumeric, join(element, ", beyond the largest ", name(type), ", ", largest_magnitude(type),
                                      "; export as bf16 or f32"));
  throw Error(Fault::kNumeric,
              join(element, ": a model with weights that are not finite is of no use; export an earlier checkpoint"));
}

double largest_difference(std::span<const float> a, std::span<const float> b) {
  double largest = 0;
#pragma omp simd reduction(max : largest)  // allows the compiler to reorder the maximum and vectorize
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::fabs(double{a[i]} - double{b[i]}));
  return largest;
}

/// A thread's buffers for encoding a chunk of a tensor.
struct ChunkEncoder {
  std::vector<std::byte> bytes;
  std::vector<float> decoded;

  /// Encodes `values` into `bytes`, and returns the largest difference of a weight.
  double encode(TensorType type, std::span<const float> values) {
    bytes.resize(static_cast<std::size_t>(bytes_of(type, static_cast<std::int64_t>(values.size()))));
    slipway::encode(type, values, bytes);
    if (type == TensorType::kF32) return 0;
    decoded.resize(values.size());
    decode(type, bytes, decoded);
    return largest_difference(decoded, values);
  }
};

}  // namespace

StoredWeights::StoredWeights(const ModelSpec& model, const TensorSource& weights, ModelFormat format)
    : model_(model), weights_(weights), format_(format) {
  std::vector<TensorInfo> actual = weights.tensors();
  std::vector<TensorInfo> expected = tensors_of(model);
  tensors_ = to_file_tensors(model, format, expected);
  if (format == ModelFormat::kGguf && model.rope_scaling == "llama3")  // where llama.cpp reads the frequency factors
    tensors_.insert(tensors_.begin() + 1, FileTensor{{"rope_freqs.weight", {model.head_width / 2}}, {}});
  written_.resize(tensors_.size());
  for (const FileTensor& tensor : tensors_) elements_ += static_cast<double>(tensor.stored.size());
  const auto by_name = [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; };
  std::sort(actual.begin(), actual.end(), by_name);
  std::sort(expected.begin(), expected.end(), by_name);
  const auto [expected_it, actual_it] = std::mismatch(expected.begin(), expected.end(), actual.begin(), actual.end());
  if (expected_it == expected.end() && actual_it == actual.end()) return;
  const std::string& mismatched = expected_it == expected.end()                                      ? actual_it->name
                                  : actual_it == actual.end() || expected_it->name < actual_it->name ? expected_it->name
                                                                                                     : actual_it->name;
  throw Error(Fault::kBug, join("the weights and the spec of the model disagree about the tensor ", mismatched));
}

TensorType StoredWeights::source_type(std::size_t index) const {
  const std::vector<TensorInfo>& parts = tensors_[index].parts;
  if (parts.empty()) return TensorType::kF32;
  const TensorType type = weights_.stored_type(parts.front().name);
  const bool equal =
      std::ranges::all_of(parts, [&](const TensorInfo& part) { return weights_.stored_type(part.name) == type; });
  return equal ? type : TensorType::kF32;
}

TensorType StoredWeights::main_source_type() const {
  std::map<TensorType, std::int64_t> elements;
  for (std::size_t i = 0; i < tensors_.size(); ++i) elements[source_type(i)] += tensors_[i].stored.size();
  return std::ranges::max_element(elements, {}, [](const auto& entry) { return entry.second; })->first;
}

std::span<float> StoredWeights::buffer_for(std::size_t index) {
  const auto count = static_cast<std::size_t>(tensors_[index].stored.size());
  Buffer<float>& buffer = buffers_[index % buffers_.size()];
  buffer.reserve(count);
  return buffer.span().first(count);
}

void StoredWeights::load(std::size_t index) {
  const FileTensor& tensor = tensors_[index];
  const std::span<float> values = buffer_for(index);
  const auto read = [&](const TensorInfo& part, std::span<float> out) {
    weights_.read(part.name, out);
    if (const int heads = permuted_heads(model_, part.name); heads > 0 && format_ == ModelFormat::kGguf)
      permute_rope(out, heads, part.shape.size() == 1 ? 1 : part.cols());
  };
  if (tensor.parts.empty()) {
    std::ranges::copy(model_.rope_freq_factors(), values.begin());
  } else if (tensor.parts.size() == 1 && !tensor.transposed) {
    read(tensor.parts.front(), values);
  } else {
    for (std::size_t part = 0; part < tensor.parts.size(); ++part) {
      part_values_.resize(static_cast<std::size_t>(tensor.parts[part].size()));
      read(tensor.parts[part], part_values_);
      insert_part(tensor, part, part_values_, values);
    }
  }
}

std::span<const float> StoredWeights::fetch(std::size_t index) {
  const bool prefetched = prefetch_.valid() && prefetched_index_ == index;
  if (prefetch_.valid()) prefetch_.get();
  if (!prefetched) load(index);
  prefetched_index_ = index + 1;
  if (prefetched_index_ < tensors_.size())
    prefetch_ = std::async(std::launch::async, [this, next = prefetched_index_] { load(next); });
  return buffer_for(index);
}

void StoredWeights::write(std::size_t index, TensorType type, const ByteSink& sink, ExportReport& report) {
  const FileTensor& in_file = tensors_[index];
  const bool keeps_shape = in_file.parts.size() == 1 && !in_file.transposed;
  const TensorInfo& tensor = keeps_shape ? in_file.parts.front() : in_file.stored;  // the one that messages name
  const std::span<const float> tensor_values = fetch(index);
  const std::size_t chunks = (tensor_values.size() + kChunkElements - 1) / kChunkElements;
  written_[index].resize(chunks);
  double largest = 0;
  std::exception_ptr failure;
#pragma omp parallel reduction(max : largest)
  {
    ChunkEncoder chunk;
#pragma omp for ordered schedule(dynamic)
    for (std::size_t i = 0; i < chunks; ++i) {
      const std::span<const float> values = tensor_values.subspan(
          i * kChunkElements, std::min(kChunkElements, tensor_values.size() - i * kChunkElements));
      const std::size_t first_out_of_range = find_first_out_of_range(values, largest_magnitude(type));
      std::exception_ptr chunk_failure;  // an exception may not leave an OpenMP loop
      try {
        if (first_out_of_range < values.size())
          throw_unrepresentable(tensor, type, static_cast<std::int64_t>(i * kChunkElements + first_out_of_range),
                                values[first_out_of_range]);
        largest = std::max(largest, chunk.encode(type, values));
        written_[index][i] = {chunk.bytes.size(), xxh3_hex(chunk.bytes.data(), chunk.bytes.size())};
      } catch (...) {
        chunk_failure = std::current_exception();
      }
#pragma omp ordered  // chunks are written in order while other threads encode the next ones
      try {
        if (failure == nullptr) failure = chunk_failure;
        if (failure == nullptr) sink(chunk.bytes);
      } catch (...) {
        failure = std::current_exception();
      }
    }
  }
  if (failure != nullptr) std::rethrow_exception(failure);
  if (largest > report.largest_difference) {
    report.largest_difference = largest;
    report.largest_difference_tensor = tensor.name;
  }
  ++report.tensors;
  ++report.tensor_types[type];
  report.parameters += tensor.size();
  report_progress(tensor);
}

void StoredWeights::verify(std::size_t index, std::span<const std::byte> reopened_bytes) {
  const std::vector<WrittenChunk>& chunks = written_[index];
  std::vector<std::size_t> chunk_begin(chunks.size() + 1);
  for (std::size_t i = 0; i < chunks.size(); ++i) chunk_begin[i + 1] = chunk_begin[i] + chunks[i].bytes;
  bool equal = chunk_begin.back() == reopened_bytes.size();
  const std::size_t compared_chunks = equal ? chunks.size() : 0;
#pragma omp parallel for schedule(dynamic) reduction(&& : equal)
  for (std::size_t i = 0; i < compared_chunks; ++i)
    equal = equal && xxh3_hex(reopened_bytes.data() + chunk_begin[i], chunks[i].bytes) == chunks[i].xxh3;
  if (!equal)
    throw Error(Fault::kStorage, join("the reopened export holds other bytes for ", tensors_[index].stored.name,
                                      " than were written; check the disk and export again"));
  report_progress(tensors_[index].stored);
}

void StoredWeights::report_progress(const TensorInfo& tensor) {
  constexpr double kPasses = 2;  // written, then verified
  elements_done_ += static_cast<double>(tensor.size());
  progress_(elements_done_, kPasses * elements_);
}

std::string describe_types(const ExportReport& report) {
  std::string text(name(report.type));
  if (report.tensor_types.size() < 2) return text;
  if (const auto main = report.tensor_types.find(report.type); main != report.tensor_types.end())
    text += join(" (", main->second, ")");
  for (const auto& [type, count] : report.tensor_types)
    if (type != report.type) text += join(" and ", name(type), " (", count, ")");
  return text;
}

ModelSpec round_to_stored_precision(ModelSpec model) {
  ModelSpec::fields([&](const SpecField& field, auto member) {
    if constexpr (std::is_same_v<decltype(member), double ModelSpec::*>)
      if (*field.gguf != '\0') model.*member = round_to_f32(model.*member);
  });
  if (model.rope_scaling == "linear") model.rope_factor = round_to_f32(model.rope_factor);
  return model;
}

void compare_tokenizers(const std::string& source_name, const Tokenizer::Parts& expected,
                        const Tokenizer::Parts& actual) {
  const auto require_equal = [&](bool equal, const char* part) {
    if (!equal)
      throw Error(Fault::kStorage,
                  join(source_name, ": the reopened tokenizer has other ", part, " than the model's; export again"));
  };
  require_equal(actual.pre == expected.pre, "rules of cutting text");
  require_equal(actual.tokens == expected.tokens, "tokens");
  require_equal(actual.merges == expected.merges, "merges");
  require_equal(actual.special_tokens == expected.special_tokens, "special tokens");
  require_equal(actual.user_defined == expected.user_defined, "added tokens");
  require_equal(actual.unused == expected.unused, "unused tokens");
  require_equal(actual.bos == expected.bos && actual.eos == expected.eos && actual.add_bos == expected.add_bos &&
                    actual.eot == expected.eot && actual.eom == expected.eom &&
                    actual.other_ends == expected.other_ends,
                "beginning and end tokens");
  require_equal(actual.nfc == expected.nfc && actual.normalized == expected.normalized, "normalization");
  require_equal(actual.chat_template == expected.chat_template, "chat template");
}

}  // namespace slipway
