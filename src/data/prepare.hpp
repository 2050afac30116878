// Makes a data folder from texts, and verifies one.
#pragma once

#include <cstdint>
#include <filesystem>

#include "src/core/json.hpp"
#include "src/data/text_source.hpp"
#include "src/data/tokenizer.hpp"

namespace slipway {

/// Options of `data prepare`. Keys are `data.*` (with TextConfig's).
struct PrepareConfig {
  TextConfig text;
  double validation_fraction = 0.02;  ///< documents with a content hash below it are for validation
  int threads = 0;                    ///< that encode; 0: one for each core of this process
  static constexpr std::int64_t kShardTokens = 1 << 25;
  std::int64_t shard_tokens = kShardTokens;  ///< tokens after which a shard is written; it is in memory until then

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    TextConfig::fields(self.text, visit);
    visit("data.validation_fraction", self.validation_fraction,
          {"fraction of the documents in the validation split, chosen by content hash; 0: none", "FRACTION",
           HelpVisibility::kFirst});
    visit("data.shard_tokens", self.shard_tokens, {"tokens per shard file", "TOKENS"});
    visit("runtime.threads", self.threads, "encoder threads; 0: one per core");
  }
  void check() const;  ///< Errors: Fault::kConfig naming the key
};

/// Encodes all documents and publishes `folder` in one step (PartialFolder). A document is [BOS if the tokenizer adds
/// one] tokens [EOS if the tokenizer has one].
///
/// Equal texts and tokenizer give byte-identical files, for any number of threads and any location of the texts.
/// Returns  the manifest.
/// Errors   Fault::kConfig when `folder` is not empty or another process writes it; Fault::kData as TextSource, and
///          when two splits are requested of fewer than two distinct documents; Fault::kStorage when writing fails.
Json prepare_corpus(const TextInputs& inputs, const PrepareConfig& config, const Tokenizer& tokenizer,
                    const std::filesystem::path& folder);

/// Reads every byte of a data folder and recomputes the manifest: hashes, counts, entropies, ids below the vocabulary,
/// no content in both splits.
/// Returns  the manifest.
/// Errors   Fault::kData naming the file.
Json verify_corpus(const std::filesystem::path& folder);

}  // namespace slipway
