// A sample of text to measure a model's loss on, and the unigram baseline for it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "src/data/corpus.hpp"
#include "src/data/tokenizer.hpp"

namespace slipway {

/// Pieces of text as ids, each scored on its own.
struct TextSample {
  std::vector<std::vector<int>> pieces;
  double unigram_nats = 0;  ///< the baseline: nats per token of a unigram model
  std::string baseline;     ///< describes how the baseline was computed
  std::string source;       ///< describes the text: "the first 256 tokens of each of 16 documents of ..."
};

/// Samples consecutive pieces of a text. The baseline is leave-one-out on the same text, with one count added for
/// every id: -ln(count / (tokens + vocabulary - 1)).
TextSample sample_from_text(const Tokenizer& tokenizer, std::string_view text, const std::string& source_name);

/// Samples the beginnings of documents of a data folder: of its validation split, or of its training split where the
/// other is empty. The baseline is the entropy of token frequencies in the training split.
/// Errors   Fault::kData when the folder was made with another tokenizer.
TextSample sample_from_corpus(const Corpus& corpus, const Tokenizer& tokenizer);

}  // namespace slipway
