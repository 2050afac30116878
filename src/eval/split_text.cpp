#include "src/eval/split_text.hpp"

#include "src/core/log.hpp"

namespace slipway {
namespace {

/// Adds the pieces of one row: runs of tokens with the same first key. Tokens at the end without a target are left out.
void append_pieces(const Batch& row, std::vector<std::vector<int>>& pieces) {
  int begin = 0;
  for (int t = 0; t < row.tokens_per_sequence; ++t) {
    const auto at = static_cast<std::size_t>(t);
    const bool ends_piece = t + 1 == row.tokens_per_sequence || row.key_start[at + 1] != row.key_start[at];
    if (!ends_piece) continue;
    int end = t + 1;  // of those with a target
    while (end > begin && row.weights[static_cast<std::size_t>(end) - 1] == 0) --end;
    if (end > begin) {
      std::vector<int>& piece = pieces.emplace_back(row.ids.begin() + begin, row.ids.begin() + end);
      piece.push_back(row.targets[static_cast<std::size_t>(end) - 1]);
    }
    begin = t + 1;
  }
}

}  // namespace

SplitText text_of_split(const Corpus& corpus, Split split, const SplitOptions& options, const Tokenizer& tokenizer) {
  if (corpus.tokenizer().sha256() != tokenizer.sha256())
    throw Error(Fault::kData, join(corpus.folder().string(),
                                   " was made with another tokenizer than the model has; name the model's own data "
                                   "folder with --data, or a text with --text"));
  if (corpus.tokens(split) == 0)
    throw Error(Fault::kData, join(corpus.folder().string(), " has no ", name(split), " split; give --split ",
                                   name(split == Split::kTrain ? Split::kValidation : Split::kTrain)));
  const Loader loader(corpus, split, {.packing = options.packing}, options.tokens_per_sequence, /*seed=*/0);
  const std::int64_t sequences = num_sequences(options.tokens, corpus.tokens(split), options.tokens_per_sequence);
  SplitText text{.source = describe_sequences(corpus, split, sequences, options.tokens_per_sequence)};
  Batch row;
  for (std::int64_t i = 0; i < sequences; ++i) {
    loader.sequences(static_cast<std::uint64_t>(i), 1, row);
    append_pieces(row, text.pieces);
  }
  return text;
}

std::vector<std::optional<float>> split_nll(Model& model, const SplitText& text, const LogitsSink& on_logits) {
  std::vector<std::optional<float>> nll;
  log::Progress progress("scoring");
  for (std::size_t i = 0; i < text.pieces.size(); ++i) {
    const std::vector<int>& piece = text.pieces[i];
    const auto piece_nll = token_nll(model, piece, static_cast<int>(piece.size()), on_logits);
    nll.insert(nll.end(), piece_nll.begin(), piece_nll.end());
    progress(static_cast<double>(i + 1), static_cast<double>(text.pieces.size()));
  }
  return nll;
}

}  // namespace slipway
