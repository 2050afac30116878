// slipway score MODEL --text FILE: the negative log-likelihood of a text, token by token.
#include "src/infer/score.hpp"

#include <iostream>

#include "io/npy.hpp"
#include "launch/command.hpp"
#include "src/core/file.hpp"
#include "src/core/json.hpp"
#include "src/core/log.hpp"
#include "src/infer/generate.hpp"
#include "src/infer/loaded_model.hpp"

namespace slipway {
namespace {

constexpr Usage kUsage{
    .summary =
        "Computes the negative log-likelihood (nats) of every token of a text, in consecutive, independent windows.\n"
        "The first token of a window has no context and is not scored.",
    .forms = "slipway score MODEL --text FILE [--context N] [--logits FILE.npy] [--json]",
    .example = "slipway score runs/a --text heldout.txt",
    .notes = "MODEL is a run folder, a checkpoint folder or a .gguf."};

struct ScoreOptions {
  std::string text, logits;
  int context = 0;
  Flag json;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("text", self.text, {"text to score", "FILE"});
    visit("context", self.context, {"tokens per window; 0: model.context", "TOKENS"});
    visit("logits", self.logits, {"also write the logits, f32 [tokens, vocabulary], to this .npy file", "FILE"});
    visit("json", self.json, "print one JSON object");
  }
};

int window_of(const ScoreOptions& options, int model_context) {
  if (options.context == 0) return model_context;
  if (options.context < 2)
    throw Error(Fault::kConfig, join("--context is ", options.context,
                                     ", but at least 2 is expected: the first token of a window is not scored"));
  if (options.context > model_context)
    log::warn(join("--context ", options.context, " is above model.context ", model_context,
                   ": the model was not meant to see so much at once"));
  return options.context;
}

Json to_json(const Score& score) {
  Json nats = Json::array();
  for (const std::optional<float>& one : score.nats) nats.push_back(one ? Json(*one) : Json());
  return {{"ids", score.ids},
          {"nll", std::move(nats)},
          {"nll_mean", score.mean_nats()},
          {"bits_per_byte", score.bits_per_byte()},
          {"scored", score.scored},
          {"scored_bytes", score.scored_bytes}};
}

}  // namespace

int command_score(const Arguments& arguments) {
  ScoreOptions options;
  LoadOptions load;
  Fields fields;
  fields.add(options);
  fields.add(load);
  if (!read_arguments(fields, arguments, kUsage)) return 0;
  const std::string& path = arguments.target("a model: a run folder, a checkpoint folder or a .gguf");
  if (options.text.empty()) throw Error(Fault::kConfig, "no text: name a file with --text FILE");
  const std::string text = read_file(options.text, Fault::kData);

  LoadedModel model = load_model(path, load);
  const int window = window_of(options, model.description().context), vocabulary = model.description().vocabulary;
  std::vector<int> ids = encode_from_start(model.tokenizer(), text);
  if (ids.size() < 2)
    throw Error(Fault::kData, join(options.text, " makes ", ids.size(),
                                   " token(s), but the first one is never scored: give at least 2"));
  std::vector<std::optional<float>> nats;
  const auto run = [&](const LogitsSink& sink) { nats = nats_of(model.model(), ids, window, sink); };
  if (options.logits.empty()) run({});
  else write_npy(options.logits, std::ssize(ids), vocabulary, [&](const AddRow& add) { run(add); });
  const Score score = score_of(model.tokenizer(), std::move(ids), std::move(nats));

  if (options.json) {
    Json json = to_json(score);
    json["context"] = window;
    json["device"] = model.kernels().device;
    std::cout << to_line(json) << "\n";
  } else {
    std::cout << "nll_mean       " << score.mean_nats() << " nats a token\nbits_per_byte  " << score.bits_per_byte()
              << "\nscored         " << score.scored << " of " << score.ids.size() << " tokens, " << score.scored_bytes
              << " bytes, in windows of " << window << "\ndevice         " << model.kernels().device << "\n";
  }
  return 0;
}

}  // namespace slipway
