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

/// A constraint on each next token, such as a grammar.
class Constraint {
 public:
  virtual ~Constraint() = default;
  /// Tokens that come next regardless of the logits; empty: none. `so_far` are the new tokens.
  virtual std::vector<int> forced(std::span<const int> so_far) = 0;
  /// The mask of tokens that may come next: one byte per id, 0 forbids it; empty: all may.
  virtual TokenMask allowed(std::span<const int> so_far) = 0;
};

/// What is asked of generate().
struct GenerateOptions {
  int tokens = 128;                ///< new ones, at most
  std::vector<std::string> stops;  ///< texts that end it; they do not appear in the result
  SamplingConfig sampling;
  bool parse_special = false;  ///< `<|name|>` in the prompt means the special token
};

enum class StopReason {
  kTokens,   ///< as many as were asked for
  kEos,      ///< an end token (of text, turn or message), which is the last id and no part of the text
  kStop,     ///< a stop string
  kContext,  ///< the model's context is full
};
std::string_view name(StopReason reason);  ///< "tokens", "eos", "stop", "context"

struct Generation {
  std::vector<int> prompt_ids;  ///< as read, BOS included
  std::vector<int> ids;         ///< new tokens, EOS included
  std::string text;             ///< the bytes of the new tokens, up to a stop string; special tokens as their text
  StopReason reason = StopReason::kTokens;
  std::string stop;           ///< the stop string that was found
  int forced = 0;             ///< of `ids`, how many a constraint forced
  double first_token_ms = 0;  ///< from before tokenization to the first new token
  double decode_s = 0;        ///< from then on
};

/// Receives text as soon as it is certain: whole UTF-8 characters (bytes that are none become U+FFFD), and nothing that
/// may still turn out to begin a stop string.
using TextSink = std::function<void(std::string_view)>;

/// Continues `prompt`. BOS stands in front of it where the tokenizer's add_bos is set; an empty prompt begins a
/// document, after BOS where there is one, else after the token that ended the document before.
///
/// Errors   Fault::kConfig for a prompt that the model's context has no room behind, and for an empty one where the
///          tokenizer has neither BOS nor EOS.
/// Cost     one pass over the prompt, then one pass a token; keys and values are kept.
Generation generate(Model& model, const Tokenizer& tokenizer, std::string_view prompt, const GenerateOptions& options,
                    const TextSink& on_text = {}, Constraint* constraint = nullptr);

/// The greedy continuation as text, for samples during training.
std::string greedy_sample(Model& model, const Tokenizer& tokenizer, std::string_view prompt, int tokens);

/// The ids of a text as training saw texts begin: BOS first where add_bos is set.
std::vector<int> encode_with_bos(const Tokenizer& tokenizer, std::string_view text, bool parse_special = false);

}  // namespace slipway
