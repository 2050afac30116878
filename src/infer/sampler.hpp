// Sampling: from logits to the next token, greedy or random.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend/backend.hpp"
#include "src/core/config.hpp"
#include "src/core/random.hpp"
#include "src/data/tokenizer.hpp"

namespace slipway {

/// How tokens are drawn. Options `temperature`, `top_k`, `top_p`, `seed`.
struct SamplingConfig {
  double temperature = 0.8;
  int top_k = 0;
  double top_p = 0.95;
  std::uint64_t seed = 1;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("temperature", self.temperature, {"sampling temperature; 0: greedy", "T"}, ResumePolicy::kReporting);
    visit("top_k", self.top_k, {"sample from the K most likely tokens; 0: from all", "K"}, ResumePolicy::kReporting);
    visit("top_p", self.top_p,
          {"nucleus sampling: from the most likely tokens with this total probability; 1: from all", "P"},
          ResumePolicy::kReporting);
    visit("seed", self.seed, {"seed of the sampling", "SEED"}, ResumePolicy::kReporting);
  }
  void check() const;  ///< Errors: Fault::kConfig naming the option
};

/// One byte per token id: 0 where the token may not come next. Empty: every token may.
using TokenMask = std::span<const std::uint8_t>;

/// Masks out ids that are not text: the padding rows of the embedding and the tokenizer's unused tokens.
class TextTokenMask {
 public:
  TextTokenMask(const Tokenizer& tokenizer, int vocabulary);
  /// `allowed` without the ids that are not text; empty when every id is allowed. Valid until the next call.
  TokenMask restrict(TokenMask allowed);

 private:
  std::vector<std::uint8_t> text_mask_V_;  // empty: every id is text
  std::vector<std::uint8_t> combined_V_;
};

/// Samples the next tokens of a batch of sequences, on the device that holds their logits. The draw for position i is a
/// function of (seed, sequence, i), so a token depends only on its logits, its sequence and its position.
class Sampler {
 public:
  /// `backend` must outlive it. Row b of the logits belongs to sequence `first_sequence` + b.
  Sampler(const Backend& backend, const SamplingConfig& config, std::uint64_t first_sequence = 0);

  /// The token of every sequence for position `position`. Among equal logits the lowest id counts as the likeliest.
  ///
  /// Shapes   logits [B, V], in the backend's memory; allowed [V], for all sequences, or empty; result [B], on the
  ///          host, valid until the next call.
  /// Precision temperature first, then top_k, then top_p; probabilities are f64 (kernels/sample.hpp).
  /// Errors   Fault::kNumeric for a logit that is NaN or +inf; Fault::kBug when the mask allows no token.
  std::span<const int> next(Matrix<const float> logits_BV, std::uint64_t position, TokenMask allowed = {});

 private:
  const Backend& backend_;
  SamplingConfig config_;
  std::uint64_t first_sequence_;
  Stream stream_ = backend_.main_stream();
  std::vector<double> uniform_B_;
  std::vector<int> id_B_;
  StagedUpload<double> uniform_device_;
  StagedUpload<std::uint8_t> allowed_device_;
  StagedDownload<int> ids_device_;
};

}  // namespace slipway
