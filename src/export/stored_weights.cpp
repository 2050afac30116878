#include "src/export/stored_weights.hpp"

#include <algorithm>
#include <cmath>
#include <exception>

#include "io/model/tensor_layout.hpp"
#include "src/core/hash.hpp"
#include "src/model/model_tensors.hpp"

namespace slipway {
namespace {

constexpr std::size_t kChunk = 1 << 16;  // weights that a thread encodes at a time: whole blocks, in its own cache

/// The nearest f32. Through memory, since GCC 12 drops the casts double -> float -> double when it vectorizes two.
double as_single(double value) {
  const volatile float single = static_cast<float>(value);
  return single;
}

/// The index of the first value that a type with this largest magnitude cannot hold; the number of values when all fit.
std::size_t first_beyond(std::span<const float> values, float largest) {
  const auto beyond = [largest](float value) { return !(std::fabs(value) <= largest); };  // NaN is, too
  int any = 0;
  for (const float value : values) any |= static_cast<int>(beyond(value));  // branch-free, so that it vectorizes
  if (any == 0) return values.size();
  return static_cast<std::size_t>(std::find_if(values.begin(), values.end(), beyond) - values.begin());
}

[[noreturn]] void refuse(const TensorInfo& tensor, TensorType type, std::int64_t place, float value) {
  const std::string where = join(tensor.name, "[", place / tensor.cols(), ", ", place % tensor.cols(), "] is ", value);
  if (std::isfinite(value))
    throw Error(Fault::kNumeric, join(where, ", beyond the largest ", name(type), ", ", largest_magnitude(type),
                                      "; export as bf16 or f32"));
  throw Error(Fault::kNumeric,
              join(where, ": a model with weights that are not finite is of no use; export an earlier checkpoint"));
}

double largest_difference(std::span<const float> a, std::span<const float> b) {
  double largest = 0;
#pragma omp simd reduction(max : largest)  // allows the compiler to reorder the maximum and vectorize
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::fabs(double{a[i]} - double{b[i]}));
  return largest;
}

/// A thread's room for a piece of a tensor on its way into the file.
struct Chunk {
  std::vector<std::byte> bytes;
  std::vector<float> decoded;

  /// Encodes, and returns the largest difference of a weight.
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
  std::vector<TensorInfo> given = weights.tensors();
  std::vector<TensorInfo> wanted = tensors_of(model);
  tensors_ = to_file_tensors(model, format, wanted);
  if (format == ModelFormat::kGguf && model.rope_scaling == "llama3")  // where llama.cpp looks for its divisors
    tensors_.insert(tensors_.begin() + 1, FileTensor{{"rope_freqs.weight", {model.head_width / 2}}, {}});
  written_.resize(tensors_.size());
  for (const FileTensor& tensor : tensors_) elements_ += static_cast<double>(tensor.stored.size());
  const auto by_name = [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; };
  std::sort(given.begin(), given.end(), by_name);
  std::sort(wanted.begin(), wanted.end(), by_name);
  const auto [w, g] = std::mismatch(wanted.begin(), wanted.end(), given.begin(), given.end());
  if (w == wanted.end() && g == given.end()) return;
  const std::string& odd = w == wanted.end() ? g->name : g == given.end() || w->name < g->name ? w->name : g->name;
  throw Error(Fault::kBug, join("the weights and the spec of the model disagree about the tensor ", odd));
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
      part_.resize(static_cast<std::size_t>(tensor.parts[part].size()));
      read(tensor.parts[part], part_);
      insert_part(tensor, part, part_, values);
    }
  }
}

std::span<const float> StoredWeights::take(std::size_t index) {
  const bool expected = prefetch_.valid() && prefetched_index_ == index;
  if (prefetch_.valid()) prefetch_.get();
  if (!expected) load(index);
  prefetched_index_ = index + 1;
  if (prefetched_index_ < tensors_.size())
    prefetch_ = std::async(std::launch::async, [this, next = prefetched_index_] { load(next); });
  return buffer_for(index);
}

void StoredWeights::write(std::size_t index, TensorType type, const ByteSink& sink, ExportReport& report) {
  const FileTensor& in_file = tensors_[index];
  const bool as_it_is = in_file.parts.size() == 1 && !in_file.transposed;
  const TensorInfo& tensor = as_it_is ? in_file.parts.front() : in_file.stored;  // what a report names
  const std::span<const float> all = take(index);
  const std::size_t chunks = (all.size() + kChunk - 1) / kChunk;
  written_[index].resize(chunks);
  double largest = 0;
  std::exception_ptr failure;
#pragma omp parallel reduction(max : largest)
  {
    Chunk chunk;
#pragma omp for ordered schedule(dynamic)
    for (std::size_t i = 0; i < chunks; ++i) {
      const std::span<const float> values = all.subspan(i * kChunk, std::min(kChunk, all.size() - i * kChunk));
      const std::size_t bad = first_beyond(values, largest_magnitude(type));
      std::exception_ptr wrong;  // an exception may not leave an OpenMP loop
      try {
        if (bad < values.size()) refuse(tensor, type, static_cast<std::int64_t>(i * kChunk + bad), values[bad]);
        largest = std::max(largest, chunk.encode(type, values));
        written_[index][i] = {chunk.bytes.size(), xxh3_hex(chunk.bytes.data(), chunk.bytes.size())};
      } catch (...) {
        wrong = std::current_exception();
      }
#pragma omp ordered  // pieces are written in order while other threads encode the next ones
      try {
        if (failure == nullptr) failure = wrong;
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
  report.parameters += tensor.size();
  report_progress(tensor);
}

void StoredWeights::verify(std::size_t index, std::span<const std::byte> found) {
  const std::vector<Written>& chunks = written_[index];
  std::vector<std::size_t> begin(chunks.size() + 1);
  for (std::size_t i = 0; i < chunks.size(); ++i) begin[i + 1] = begin[i] + chunks[i].bytes;
  bool equal = begin.back() == found.size();
  const std::size_t comparable = equal ? chunks.size() : 0;
#pragma omp parallel for schedule(dynamic) reduction(&& : equal)
  for (std::size_t i = 0; i < comparable; ++i)
    equal = equal && xxh3_hex(found.data() + begin[i], chunks[i].bytes) == chunks[i].xxh3;
  if (!equal)
    throw Error(Fault::kStorage, join("the reopened export holds other bytes for ", tensors_[index].stored.name,
                                      " than were written; check the disk and export again"));
  report_progress(tensors_[index].stored);
}

void StoredWeights::report_progress(const TensorInfo& tensor) {
  constexpr double kTimes = 2;  // written, then verified
  elements_done_ += static_cast<double>(tensor.size());
  progress_(elements_done_, kTimes * elements_);
}

ModelSpec round_to_stored_precision(ModelSpec model) {
  model.rope_base = as_single(model.rope_base);
  model.norm_eps = as_single(model.norm_eps);
  if (model.rope_scaling == "linear") model.rope_factor = as_single(model.rope_factor);
  return model;
}

void compare_tokenizers(const std::string& source_name, const Tokenizer::Parts& given, const Tokenizer::Parts& found) {
  const auto demand = [&](bool equal, const char* part) {
    if (!equal)
      throw Error(Fault::kStorage,
                  join(source_name, ": the reopened tokenizer has other ", part, " than the model's; export again"));
  };
  demand(found.pre == given.pre, "rules of cutting text");
  demand(found.tokens == given.tokens, "tokens");
  demand(found.merges == given.merges, "merges");
  demand(found.special_tokens == given.special_tokens, "special tokens");
  demand(found.user_defined == given.user_defined, "added tokens");
  demand(found.unused == given.unused, "unused tokens");
  demand(found.bos == given.bos && found.eos == given.eos && found.add_bos == given.add_bos && found.eot == given.eot &&
             found.eom == given.eom && found.other_ends == given.other_ends,
         "beginning and end tokens");
  demand(found.nfc == given.nfc && found.normalized == given.normalized, "normalization");
  demand(found.chat_template == given.chat_template, "chat template");
}

}  // namespace slipway
