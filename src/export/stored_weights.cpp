#include "src/export/stored_weights.hpp"

#include <algorithm>
#include <cmath>
#include <exception>
#include <map>

#include "io/model/tensor_layout.hpp"
#include "src/core/hash.hpp"
#include "src/core/words.hpp"
#include "src/model/model_tensors.hpp"

namespace slipway {
namespace {

constexpr std::size_t kChunkElements = 1 << 16;  // a thread encodes: a multiple of the block size, fits its cache

/// The nearest f32. Through memory, since GCC 12 drops the casts double -> float -> double when it vectorizes two.
double round_to_f32(double value) {
  const volatile float single = static_cast<float>(value);
  return single;
}

/// The index of the first value that a type with this largest magnitude cannot hold; the number of values when all fit.
std::size_t first_out_of_range(std::span<const float> values, float largest) {
  const auto beyond = [largest](float value) { return !(std::fabs(value) <= largest); };  // NaN is, too
  int any = 0;
  for (const float value : values) any |= static_cast<int>(beyond(value));  // branch-free, so that it vectorizes
  if (any == 0) return values.size();
  return static_cast<std::size_t>(std::find_if(values.begin(), values.end(), beyond) - values.begin());
}

[[noreturn]] void throw_out_of_range(const TensorInfo& tensor, TensorType type, std::int64_t index, float value) {
  const std::string where = join(tensor.name, "[", index / tensor.cols(), ", ", index % tensor.cols(), "] is ", value);
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

/// A thread's room for a piece of a tensor on its way into the file.
struct EncodedChunk {
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
  std::vector<TensorInfo> actual_tensors = weights.tensors();
  std::vector<TensorInfo> expected_tensors = tensors_of(model);
  tensors_ = to_file_tensors(model, format, expected_tensors);
  if (format == ModelFormat::kGguf && model.rope_scaling == "llama3")  // where llama.cpp looks for its divisors
    tensors_.insert(tensors_.begin() + 1, FileTensor{{"rope_freqs.weight", {model.head_width / 2}}, {}});
  chunks_written_.resize(tensors_.size());
  for (const FileTensor& tensor : tensors_) elements_ += static_cast<double>(tensor.stored.size());
  const auto by_name = [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; };
  std::sort(actual_tensors.begin(), actual_tensors.end(), by_name);
  std::sort(expected_tensors.begin(), expected_tensors.end(), by_name);
  const auto [w, g] =
      std::mismatch(expected_tensors.begin(), expected_tensors.end(), actual_tensors.begin(), actual_tensors.end());
  if (w == expected_tensors.end() && g == actual_tensors.end()) return;
  const std::string& mismatched = w == expected_tensors.end()                      ? g->name
                                  : g == actual_tensors.end() || w->name < g->name ? w->name
                                                                                   : g->name;
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
  const bool expected = prefetch_.valid() && prefetched_index_ == index;
  if (prefetch_.valid()) prefetch_.get();
  if (!prefetched) load(index);
  prefetched_index_ = index + 1;
  if (prefetched_index_ < tensors_.size())
    prefetch_ = std::async(std::launch::async, [this, next = prefetched_index_] { load(next); });
  return buffer_for(index);
}

void StoredWeights::write(std::size_t index, TensorType type, const ByteSink& sink, ExportReport& report) {
  const FileTensor& file_tensor = tensors_[index];
  const bool is_stored_unchanged = file_tensor.parts.size() == 1 && !file_tensor.transposed;
  const TensorInfo& tensor =
      is_stored_unchanged ? file_tensor.parts.front() : file_tensor.stored;  // what a report names
  const std::span<const float> all_values = fetch(index);
  const std::size_t chunks = (all_values.size() + kChunk - 1) / kChunk;
  chunks_written_[index].resize(chunks);
  double largest = 0;
  std::exception_ptr failure;
#pragma omp parallel reduction(max : largest)
  {
    EncodedChunk chunk;
#pragma omp for ordered schedule(dynamic)
    for (std::size_t i = 0; i < chunks; ++i) {
      const std::span<const float> values =
          all_values.subspan(i * kChunk, std::min(kChunk, all_values.size() - i * kChunk));
      const std::size_t bad_index = first_out_of_range(values, largest_magnitude(type));
      std::exception_ptr chunk_failure;  // an exception may not leave an OpenMP loop
      try {
        if (bad_index < values.size())
          throw_out_of_range(tensor, type, static_cast<std::int64_t>(i * kChunk + bad_index), values[bad_index]);
        largest = std::max(largest, chunk.encode(type, values));
        chunks_written_[index][i] = {chunk.bytes.size(), xxh3_hex(chunk.bytes.data(), chunk.bytes.size())};
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

void StoredWeights::verify(std::size_t index, std::span<const std::byte> actual) {
  const std::vector<WrittenChunk>& chunks = chunks_written_[index];
  std::vector<std::size_t> offsets(chunks.size() + 1);
  for (std::size_t i = 0; i < chunks.size(); ++i) offsets[i + 1] = offsets[i] + chunks[i].bytes;
  bool equal = offsets.back() == actual.size();
  const std::size_t comparable = equal ? chunks.size() : 0;
#pragma omp parallel for schedule(dynamic) reduction(&& : equal)
  for (std::size_t i = 0; i < comparable; ++i)
    equal = equal && xxh3_hex(actual.data() + offsets[i], chunks[i].bytes) == chunks[i].xxh3;
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
  const auto main = report.tensor_types.find(report.type);
  if (main != report.tensor_types.end()) text += join(" (", pluralize(main->second, "tensor"), ")");
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
  const auto demand = [&](bool equal, const char* part) {
    if (!equal)
      throw Error(Fault::kStorage,
                  join(source_name, ": the reopened tokenizer has other ", part, " than the model's; export again"));
  };
  demand(actual.pre == expected.pre, "rules of cutting text");
  demand(actual.tokens == expected.tokens, "tokens");
  demand(actual.merges == expected.merges, "merges");
  demand(actual.special_tokens == expected.special_tokens, "special tokens");
  demand(actual.user_defined == expected.user_defined, "added tokens");
  demand(actual.unused == expected.unused, "unused tokens");
  demand(actual.bos == expected.bos && actual.eos == expected.eos && actual.add_bos == expected.add_bos &&
             actual.eot == expected.eot && actual.eom == expected.eom && actual.other_ends == expected.other_ends,
         "beginning and end tokens");
  demand(actual.nfc == expected.nfc && actual.normalized == expected.normalized, "normalization");
  demand(actual.chat_template == expected.chat_template, "chat template");
}

}  // namespace slipway
