#include "src/eval/text_sample.hpp"

#include <algorithm>
#include <cmath>

#include "src/core/random.hpp"
#include "src/core/words.hpp"
#include "src/infer/generate.hpp"

namespace slipway {
namespace {

constexpr int kMaxTokens = 4096;               // their mean loss is accurate to about 0.05 nats
constexpr std::int64_t kTokensPerPiece = 256;  // fits the context of most models
constexpr std::size_t kMaxTextBytes = 1 << 20;

/// Mean loss of the leave-one-out unigram model, with one count added for every id of the vocabulary.
double unigram_nats(const std::vector<int>& ids, int vocabulary) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(vocabulary));
  for (const int id : ids) ++counts[static_cast<std::size_t>(id)];
  const double total = static_cast<double>(ids.size()) + vocabulary - 1;
  double sum = 0;
  for (const std::int64_t count : counts)
    if (count > 0) sum -= static_cast<double>(count) * std::log(static_cast<double>(count) / total);
  return sum / static_cast<double>(std::max<std::size_t>(1, ids.size()));
}

/// The longest prefix of at most `limit` bytes that ends between characters.
std::string_view utf8_prefix(std::string_view text, std::size_t limit) {
  if (text.size() <= limit) return text;
  while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xc0) == 0x80) --limit;
  return text.substr(0, limit);
}

}  // namespace

TextSample sample_from_text(const Tokenizer& tokenizer, std::string_view text, const std::string& source_name) {
  const std::vector<int> ids = encode_with_bos(tokenizer, utf8_prefix(text, kMaxTextBytes));
  TextSample sample{.unigram_nats = unigram_nats(ids, tokenizer.vocabulary_size()),
                    .baseline = "token frequencies of the same text, one added for every id",
                    .source = source_name};
  const auto end = std::min<std::size_t>(ids.size(), kMaxTokens);
  for (std::size_t at = 0; at < end; at += kTokensPerPiece) {
    const auto first = ids.begin() + static_cast<std::ptrdiff_t>(at);
    sample.pieces.emplace_back(first,
                               first + static_cast<std::ptrdiff_t>(std::min<std::size_t>(kTokensPerPiece, end - at)));
  }
  return sample;
}

TextSample sample_from_corpus(const Corpus& corpus, const Tokenizer& tokenizer) {
  if (corpus.tokenizer().sha256() != tokenizer.sha256())
    throw Error(Fault::kData, join(corpus.folder().string(),
                                   " was made with another tokenizer than the model has; name the model's own data "
                                   "folder with --data, or a text with --text"));
  const Split split = corpus.documents(Split::kValidation) > 0 ? Split::kValidation : Split::kTrain;
  const auto documents = static_cast<std::uint64_t>(corpus.documents(split));
  TextSample sample{.unigram_nats = corpus.statistics(Split::kTrain).unigram_entropy_nats,
                    .baseline = "entropy of token frequencies in the training split",
                    .source = {}};
  std::int64_t sampled_tokens = 0;
  for (std::uint64_t i = 0; i < documents && sampled_tokens < kMaxTokens; ++i) {
    const auto document = static_cast<std::int64_t>(permute(i, documents, /*seed=*/0, stream_of("qa/documents")));
    const std::int64_t count = std::min(kTokensPerPiece, corpus.document_tokens(split, document));
    std::vector<int>& piece = sample.pieces.emplace_back(static_cast<std::size_t>(count));
    corpus.copy(split, document, 0, count, piece.data());
    sampled_tokens += count;
  }
  sample.source =
      join("the first ", kTokensPerPiece, " tokens of each of ", pluralize(sample.pieces.size(), "document"),
           " of the ", name(split), " split of corpus ", corpus.corpus_sha256().substr(0, 12));
  return sample;
}

}  // namespace slipway
