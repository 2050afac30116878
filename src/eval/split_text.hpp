// The validation set of a training run, so that other commands can score it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/data/corpus.hpp"
#include "src/data/loader.hpp"
#include "src/data/tokenizer.hpp"
#include "src/infer/score.hpp"
#include "src/model/model.hpp"

namespace slipway {

/// How a run cuts its validation set from a split; the defaults are those of train's keys.
struct SplitTextConfig {
  int tokens_per_sequence = 512;      ///< train.sequence
  std::int64_t tokens = 131072;       ///< validate.tokens
  std::string packing = "documents";  ///< data.packing
};

/// The validation set of a run: the first sequences in a fixed order, each split at the document boundaries that
/// attention does not cross. A piece ends with its last target.
struct SplitText {
  std::vector<std::vector<int>> pieces;
  std::string source;  ///< `256 sequences of 512 tokens of the validation split of corpus 3f2a...`
};

/// Reads the validation set from a split of a corpus.
/// Errors   Fault::kData when the split is empty, or the folder was made with another tokenizer.
SplitText read_split_text(const Corpus& corpus, Split split, const SplitTextConfig& config, const Tokenizer& tokenizer);

/// The loss in nats of each id of all pieces, each piece scored independently. Their mean equals the loss that training
/// reports, up to the rounding of the compute type. `on_logits` and errors: as token_nll().
std::vector<std::optional<float>> losses_of_split(Model& model, const SplitText& text, const LogitsSink& on_logits);

}  // namespace slipway
