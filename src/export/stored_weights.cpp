#include "src/export/stored_weights.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "io/tensor_names.hpp"

namespace slipway {
namespace {

constexpr std::int64_t kPiece = 1 << 20;  // weights encoded at a time: whole blocks, and a few MiB

/// Calls `work(values, bytes)` for pieces of the tensor's encoding.
template <class Work>
void encode_pieces(std::span<const float> values, TensorType type, Work&& work) {
  std::vector<std::byte> bytes;
  for (std::size_t at = 0; at < values.size(); at += kPiece) {
    const std::span<const float> piece = values.subspan(at, std::min<std::size_t>(kPiece, values.size() - at));
    bytes.resize(static_cast<std::size_t>(bytes_of(type, static_cast<std::int64_t>(piece.size()))));
    encode(type, piece, bytes);
    work(piece, std::span<const std::byte>(bytes));
  }
}

/// The nearest f32. By memory, since GCC 12 drops the casts double -> float -> double where it joins two into a vector.
double as_single(double value) {
  const volatile float single = static_cast<float>(value);
  return single;
}

void check_range(const NamedTensor& tensor, TensorType type, std::span<const float> values) {
  const float largest = largest_magnitude(type);
  const auto bad =
      std::find_if(values.begin(), values.end(), [&](float value) { return !(std::fabs(value) <= largest); });
  if (bad == values.end()) return;
  const std::int64_t place = bad - values.begin();
  const std::string where = join(tensor.name, "[", place / tensor.cols(), ", ", place % tensor.cols(), "] is ", *bad);
  if (std::isfinite(*bad))
    throw Error(Fault::kNumeric,
                join(where, ", beyond the largest ", name(type), ", ", largest, "; export as bf16 or f32"));
  throw Error(Fault::kNumeric,
              join(where, ": a model with weights that are not finite is of no use; export an earlier checkpoint"));
}

}  // namespace

StoredWeights::StoredWeights(const ModelDescription& model, const TensorSource& weights, Rows rows)
    : model_(model), weights_(weights), rows_(rows), tensors_(tensors_of(model)) {
  for (const NamedTensor& tensor : tensors_) elements_ += static_cast<double>(tensor.size());
  std::vector<NamedTensor> given = weights.tensors();
  std::vector<NamedTensor> wanted = tensors_;
  const auto by_name = [](const NamedTensor& a, const NamedTensor& b) { return a.name < b.name; };
  std::sort(given.begin(), given.end(), by_name);
  std::sort(wanted.begin(), wanted.end(), by_name);
  const auto [w, g] = std::mismatch(wanted.begin(), wanted.end(), given.begin(), given.end());
  if (w == wanted.end() && g == given.end()) return;
  const std::string& odd = w == wanted.end() ? g->name : g == given.end() || w->name < g->name ? w->name : g->name;
  throw Error(Fault::kBug, join("the weights and the description of the model disagree about the tensor ", odd));
}

std::vector<float> StoredWeights::load(const NamedTensor& tensor) const {
  std::vector<float> values(static_cast<std::size_t>(tensor.size()));
  weights_.read(tensor.name, values);
  if (const int heads = heads_to_interleave(model_, tensor.name); heads > 0 && rows_ == Rows::kNeighbours)
    interleave_rows(values, heads, tensor.shape.size() == 1 ? 1 : tensor.cols());
  return values;
}

void StoredWeights::write(const NamedTensor& tensor, TensorType type, const ByteSink& sink) const {
  const std::vector<float> values = load(tensor);
  check_range(tensor, type, values);
  encode_pieces(values, type, [&](std::span<const float>, std::span<const std::byte> bytes) { sink(bytes); });
  done_with(tensor);
}

void StoredWeights::done_with(const NamedTensor& tensor) const {
  constexpr double kTimes = 2;  // written, then verified
  elements_done_ += static_cast<double>(tensor.size());
  progress_(elements_done_, kTimes * elements_);
}

void StoredWeights::verify(const NamedTensor& tensor, TensorType type, std::span<const std::byte> found,
                           ExportReport& report) const {
  const std::vector<float> values = load(tensor);
  std::vector<float> decoded(static_cast<std::size_t>(std::min(kPiece, tensor.size())));
  std::size_t at = 0;
  encode_pieces(values, type, [&](std::span<const float> piece, std::span<const std::byte> bytes) {
    if (at + bytes.size() > found.size() || std::memcmp(bytes.data(), found.data() + at, bytes.size()) != 0)
      throw Error(Fault::kStorage, join("the reopened export holds other bytes for ", tensor.name,
                                        " than were written; check the disk and export again"));
    at += bytes.size();
    if (type == TensorType::kF32) return;
    decode(type, bytes, std::span(decoded).first(piece.size()));
    for (std::size_t i = 0; i < piece.size(); ++i) {
      const double difference = std::fabs(double{decoded[i]} - double{piece[i]});
      if (difference <= report.largest_difference) continue;
      report.largest_difference = difference;
      report.largest_at = tensor.name;
    }
  });
  ++report.tensors;
  report.parameters += tensor.size();
  done_with(tensor);
}

ModelDescription as_stored(ModelDescription model) {
  model.rope_base = as_single(model.rope_base);
  model.norm_eps = as_single(model.norm_eps);
  return model;
}

void compare_tokenizers(const std::string& called, const Tokenizer::Parts& given, const Tokenizer::Parts& found) {
  std::vector<int> specials = given.specials;
  std::sort(specials.begin(), specials.end());
  const auto demand = [&](bool equal, const char* part) {
    if (!equal)
      throw Error(Fault::kStorage,
                  join(called, ": the reopened tokenizer has other ", part, " than the model's; export again"));
  };
  demand(found.pre == given.pre, "rules of cutting text");
  demand(found.tokens == given.tokens, "tokens");
  demand(found.merges == given.merges, "merges");
  demand(found.specials == specials, "special tokens");
  demand(found.bos == given.bos && found.eos == given.eos && found.add_bos == given.add_bos,
         "beginning and end tokens");
  demand(found.nfc == given.nfc, "normalization");
  demand(found.chat_template == given.chat_template, "chat template");
}

}  // namespace slipway
