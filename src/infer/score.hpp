// Scoring: the negative log-likelihood of every token of a text.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "src/data/tokenizer.hpp"
#include "src/model/model.hpp"

namespace slipway {

/// Receives the logits after each id, in order. Shapes: [V].
using LogitsSink = std::function<void(std::span<const float>)>;

/// The loss of each id in nats, given the ids before it in its window: -ln softmax(logits of the row before)[id].
///
/// Windows are consecutive, independent, and `window` ids long (the last one may be shorter). The first id of a window
/// has no context, so its entry is empty.
/// Shapes   ids [N]; result [N]; `on_logits`, when given, is called N times.
/// Precision logits and log-sum-exp in f32.
/// Errors   Fault::kConfig for a window below 2; Fault::kNumeric for a loss that is not finite, naming the token.
/// Cost     one pass over the ids; a bounded number of logits at a time.
std::vector<std::optional<float>> token_nll(Model& model, std::span<const int> ids, int window,
                                            const LogitsSink& on_logits = {});

/// A scored text.
struct Score {
  std::vector<int> ids;                      ///< BOS first where add_bos is set
  std::vector<std::optional<float>> losses;  ///< one per id, in nats
  std::int64_t scored_tokens = 0;            ///< ids that have a loss
  std::int64_t scored_bytes = 0;             ///< the bytes of these tokens' text
  double loss_sum = 0;                       ///< nats

  /// Nats per scored token.
  double mean_loss() const { return loss_sum / static_cast<double>(scored_tokens); }
  double bits_per_byte() const;
};

/// Sums `losses`, which token_nll() returned for `ids`. Errors: Fault::kData when no id was scored.
Score make_score(const Tokenizer& tokenizer, std::vector<int> ids, std::vector<std::optional<float>> losses);

}  // namespace slipway
