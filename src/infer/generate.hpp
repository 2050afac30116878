// Text generation: continues a prompt until a stop condition.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "src/data/tokenizer.hpp"
#include "src/infer/sampler.hpp"
#include "src/infer/session.hpp"

namespace slipway {

/// Constrains each next token, such as by a grammar. `generated`: the new tokens so far, without the prompt.
class Constraint {
 public:
  virtual ~Constraint() = default;
  /// Tokens that come next regardless of the logits; empty: the next one is sampled.
  virtual std::vector<int> forced_tokens(std::span<const int> generated) = 0;
  /// The mask of tokens that may come next. Shapes: [V], or empty when all may.
  virtual TokenMask allowed_mask(std::span<const int> generated) = 0;
};

/// Options of generate().
struct GenerateOptions {
  int max_new_tokens = 128;
  std::vector<std::string> stops;  ///< stop strings: they end the generation and are not part of the result
  SamplingConfig sampling;
  bool parse_special = false;  ///< `<|name|>` in the prompt means the special token
};

enum class StopReason {
  kMaxNewTokens,  ///< `max_new_tokens` were generated
  kEos,           ///< an end token (of text, turn or message): it is the last id, and not part of the text
  kStopString,    ///< a stop string
  kContextFull,   ///< the model's context is full
};
std::string_view name(StopReason reason);  ///< "tokens", "eos", "stop", "context"

struct Generation {
  std::vector<int> prompt_ids;  ///< BOS included
  std::vector<int> ids;         ///< new tokens, EOS included
  std::string text;             ///< the bytes of the new tokens, up to a stop string; special tokens as their text
  StopReason reason = StopReason::kMaxNewTokens;
  std::string stop;           ///< the stop string that was found
  int forced_count = 0;       ///< tokens that a constraint forced
  double first_token_ms = 0;  ///< from before tokenization to the first new token
  double decode_s = 0;        ///< from the first new token to the end
};

/// Receives text as soon as it is final: complete UTF-8 characters (invalid bytes become U+FFFD), and nothing that may
/// still become part of a stop string.
using TextSink = std::function<void(std::string_view)>;

/// Continues `prompt`. BOS is prepended where the tokenizer's add_bos is set. An empty prompt begins a document: after
/// BOS where the tokenizer has one, else after EOS, which ends the preceding document.
///
/// Errors   Fault::kConfig for a prompt that fills the model's context, and for an empty one where the tokenizer has
///          neither BOS nor EOS.
/// Cost     one pass over the prompt, then one pass a token; keys and values are cached.
Generation generate(Model& model, const Tokenizer& tokenizer, std::string_view prompt, const GenerateOptions& options,
                    const TextSink& on_text = {}, Constraint* constraint = nullptr);

/// The greedy continuation as text, for samples during training.
std::string greedy_sample(Model& model, const Tokenizer& tokenizer, std::string_view prompt, int tokens);

/// The ids of a text, preceded by BOS where add_bos is set, as in training.
std::vector<int> encode_with_bos(const Tokenizer& tokenizer, std::string_view text, bool parse_special = false);

}  // namespace slipway
