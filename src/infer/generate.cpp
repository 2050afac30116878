#include "src/infer/generate.hpp"

#include <algorithm>
#include <optional>

#include "src/core/clock.hpp"
#include "src/core/error.hpp"
#include "src/infer/text_stream.hpp"

namespace slipway {
namespace {

std::vector<int> encode_prompt(const Tokenizer& tokenizer, std::string_view prompt, bool parse_special, int context) {
  std::vector<int> ids = encode_with_bos(tokenizer, prompt, parse_special);
  if (ids.empty()) {
    const std::optional<int> first_id = tokenizer.bos() ? tokenizer.bos() : tokenizer.eos();
    if (!first_id)
      throw Error(
          Fault::kConfig,
          "the prompt is empty, and the tokenizer has no BOS or EOS to begin after: give --prompt a text to continue");
    ids.push_back(*first_id);
  }
  if (ids.size() >= static_cast<std::size_t>(context))
    throw Error(Fault::kConfig, join("the prompt has ", ids.size(), " tokens, but model.context is ", context,
                                     " and new tokens need room behind it; shorten the prompt"));
  return ids;
}

}  // namespace

std::string_view name(StopReason reason) {
  switch (reason) {
    case StopReason::kMaxNewTokens: return "tokens";
    case StopReason::kEos: return "eos";
    case StopReason::kStopString: return "stop";
    case StopReason::kContextFull: return "context";
  }
  return "";
}

std::vector<int> encode_with_bos(const Tokenizer& tokenizer, std::string_view text, bool parse_special) {
  std::vector<int> ids = tokenizer.encode(text, parse_special);
  if (tokenizer.add_bos() && tokenizer.bos()) ids.insert(ids.begin(), *tokenizer.bos());
  return ids;
}

Generation generate(Model& model, const Tokenizer& tokenizer, std::string_view prompt, const GenerateOptions& options,
                    const TextSink& on_text, Constraint* constraint) {
  const double begin_s = now_s();
  double first_token_s = 0;
  const int context = model.spec().context;
  Generation result{.prompt_ids = encode_prompt(tokenizer, prompt, options.parse_special, context)};
  const int remaining = context - static_cast<int>(result.prompt_ids.size());
  const auto max_tokens = static_cast<std::size_t>(std::clamp(options.max_new_tokens, 0, remaining));
  result.reason = options.max_new_tokens > remaining ? StopReason::kContextFull : StopReason::kMaxNewTokens;

  Session session(model, 1, context - remaining + static_cast<int>(max_tokens));
  Sampler sampler(model.backend(), options.sampling);
  TextTokenMask text_mask(tokenizer, model.spec().vocabulary);
  TextStream stream(options.stops, on_text);
  bool finished = false;
  for (std::vector<int> pending = result.prompt_ids; !finished && result.ids.size() < max_tokens;) {
    std::vector<int> next;
    if (constraint != nullptr) next = constraint->forced_tokens(result.ids);
    result.forced_count += static_cast<int>(next.size());
    session.decode(pending);
    if (next.empty()) {
      const TokenMask allowed = constraint == nullptr ? TokenMask{} : constraint->allowed_mask(result.ids);
      next = {sampler.next(session.device_logits(), result.ids.size(), text_mask.restrict(allowed)).front()};
    }
    if (first_token_s == 0) first_token_s = now_s();

    next.resize(std::min(next.size(), max_tokens - result.ids.size()));
    for (const int id : next) {
      result.ids.push_back(id);
      if (tokenizer.is_end_of_generation(id)) result.reason = StopReason::kEos, finished = true;
      else if (stream.add(tokenizer.decode(std::span(&id, 1))))
        result.reason = StopReason::kStopString, finished = true;
      if (finished) break;
    }
    pending = std::move(next);
  }
  stream.finish();
  result.text = stream.text();
  result.stop = stream.stop();
  result.first_token_ms = first_token_s == 0 ? 0 : (first_token_s - begin_s) * 1e3;
  result.decode_s = first_token_s == 0 ? 0 : now_s() - first_token_s;
  return result;
}

std::string greedy_sample(Model& model, const Tokenizer& tokenizer, std::string_view prompt, int tokens) {
  return generate(model, tokenizer, prompt, {.max_new_tokens = tokens, .sampling = {.temperature = 0}}).text;
}

}  // namespace slipway
