#include "src/eval/split_text.hpp"

#include "src/core/log.hpp"

namespace slipway {
namespace {

/// Appends the pieces of one row: runs of tokens with the same first key. Trailing tokens without a target are dropped.
void add_pieces(const Batch& row, std::vector<std::vector<int>>& pieces) {
  int begin = 0;
  for (int t = 0; t < row.tokens_per_sequence; ++t) {
    const auto at = static_cast<std::size_t>(t);
    const bool ends_piece = t + 1 == row.tokens_per_sequence || row.key_start[at + 1] != row.key_start[at];
    if (!ends_piece) continue;
    int end = t + 1;  // of the tokens that have a target
    while (end > begin && row.weights[static_cast<std::size_t>(end) - 1] == 0) --end;
    if (end > begin) {
      std::vector<int>& piece = pieces.emplace_back(row.ids.begin() + begin, row.ids.begin() + end);
      piece.push_back(row.targets[static_cast<std::size_t>(end) - 1]);
    }
    begin = t + 1;
  }
}

}  // namespace

SplitText read_split_text(const Corpus& corpus, Split split, const SplitTextConfig& config,
                          const Tokenizer& tokenizer) {
  if (corpus.tokenizer().sha256() != tokenizer.sha256())
    throw Error(Fault::kData, join(corpus.folder().string(),
                                   " was made with another tokenizer than the model has; name the model's own data "
                                   "folder with --data, or a text with --text"));
  if (corpus.tokens(split) == 0)
    throw Error(Fault::kData, join(corpus.folder().string(), " has no ", name(split), " split; give --split ",
                                   name(split == Split::kTrain ? Split::kValidation : Split::kTrain)));
  const Loader loader(corpus, split, {.packing = config.packing}, config.tokens_per_sequence, /*seed=*/0);
  const std::int64_t sequences = num_sequences(config.tokens, corpus.tokens(split), config.tokens_per_sequence);
  SplitText text{.source = describe_sequences(corpus, split, sequences, config.tokens_per_sequence)};
  Batch row;
  for (std::int64_t i = 0; i < sequences; ++i) {
    loader.sequences(static_cast<std::uint64_t>(i), 1, row);
    add_pieces(row, text.pieces);
  }
  return text;
}

std::vector<std::optional<float>> losses_of_split(Model& model, const SplitText& text, const LogitsSink& on_logits) {
  std::vector<std::optional<float>> losses;
  log::Progress progress("scoring");
  for (std::size_t i = 0; i < text.pieces.size(); ++i) {
    const std::vector<int>& piece = text.pieces[i];
    const auto piece_losses = token_nll(model, piece, static_cast<int>(piece.size()), on_logits);
    losses.insert(losses.end(), piece_losses.begin(), piece_losses.end());
    progress(static_cast<double>(i + 1), static_cast<double>(text.pieces.size()));
  }
  return losses;
}

}  // namespace slipway
