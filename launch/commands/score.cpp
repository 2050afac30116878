// slipway score MODEL (--text FILE | --data DIR): the negative log-likelihood of a text, token by token.
#include "src/infer/score.hpp"

#include <iostream>

#include "io/data/npy.hpp"
#include "launch/commands/command.hpp"
#include "launch/process/write_failures.hpp"
#include "src/config/run_config.hpp"
#include "src/core/file.hpp"
#include "src/core/json.hpp"
#include "src/core/log.hpp"
#include "src/core/words.hpp"
#include "src/eval/split_text.hpp"
#include "src/infer/generate.hpp"
#include "src/infer/loaded_model.hpp"

namespace slipway {
namespace {

constexpr Usage kScoreUsage{
    .summary =
        "Computes the negative log-likelihood (nats) of every token of a text, in consecutive, independent windows.\n"
        "The first token of a window has no context and is not scored. With --data the text is what training "
        "validates\n"
        "on, cut as the run cuts it: the mean of a run is its own Val Loss, to rounding. A .gguf does not know its "
        "run's\n"
        "validate.tokens: of it the whole split is scored.",
    .synopsis =
        "slipway score MODEL (--text FILE | --data DIR [--split validation|train]) [--context N]\n"
        "    [--logits FILE.npy] [--json]",
    .example = "slipway score runs/a --text heldout.txt",
    .notes = "MODEL is a run folder, a checkpoint folder, a .gguf or a Hugging Face folder."};

struct ScoreOptions {
  std::string text, data, split, logits;
  int context = 0;
  Flag json;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("text", self.text, {"text to score", "FILE"});
    visit("data", self.data, {"score the fixed validation set of this data folder, as training does", "DIR"});
    visit("split", self.split, {"with --data: which split; validation where none is named", "validation|train"});
    visit("context", self.context,
          {"tokens per window; 0: model.context, and with --data the train.sequence of the run", "TOKENS"});
    visit("logits", self.logits, {"also write the logits, f32 [tokens, vocabulary], to this .npy file", "FILE"});
    visit("json", self.json, "print one JSON object");
  }
};

int window_size(const ScoreOptions& options, int model_context) {
  if (options.context == 0) return model_context;
  if (options.context < 2)
    throw Error(Fault::kConfig, join("--context is ", options.context,
                                     ", but at least 2 is expected: the first token of a window is not scored"));
  if (options.context > model_context)
    log::warn(join("--context ", options.context, " is above model.context ", model_context,
                   ": the model was not meant to see so much at once"));
  return options.context;
}

Split parse_split(const ScoreOptions& options) {
  if (options.split.empty() || options.split == "validation") return Split::kValidation;
  if (options.split == "train") return Split::kTrain;
  throw Error(Fault::kConfig, join("--split is '", options.split, "', but validation or train is expected"));
}

/// How the run of this model makes its validation set. For a model without a run: the keys' defaults, and the model's
/// context.
SplitTextConfig split_text_config(const ModelBundle& bundle, const ScoreOptions& options) {
  RunConfig config;
  config.train.sequence = bundle.spec.context;
  Fields fields;
  config.add_to(fields);
  for (const char* key : {"train.sequence", "validate.tokens", "data.packing"})
    if (bundle.info.config.contains(key)) fields.set(key, bundle.info.config[key].get<std::string>());
  if (options.context > 0) config.train.sequence = window_size(options, bundle.spec.context);
  return {config.train.sequence, config.reporting.validate_tokens, config.data.packing};
}

/// The text to score: its ids, a function that computes their losses, and the size of its windows.
struct ScoreTask {
  std::vector<int> ids;
  std::function<std::vector<std::optional<float>>(Model&, const LogitsSink&)> run;
  std::string source;
  int window = 0;
};

ScoreTask make_text_task(const LoadedModel& model, const ScoreOptions& options) {
  const std::string text = read_file(options.text, Fault::kData);
  ScoreTask task{.ids = encode_with_bos(model.tokenizer(), text),
                 .source = options.text,
                 .window = window_size(options, model.spec().context)};
  if (task.ids.size() < 2)
    throw Error(Fault::kData, join(options.text, " makes ", pluralize(task.ids.size(), "token"),
                                   ", but the first one is never scored: give at least 2"));
  task.run = [ids = task.ids, window = task.window](Model& loaded, const LogitsSink& sink) {
    return token_nll(loaded, ids, window, sink);
  };
  return task;
}

ScoreTask make_split_task(const LoadedModel& model, const ScoreOptions& options) {
  const Split split = parse_split(options);
  const SplitTextConfig split_config = split_text_config(model.bundle(), options);
  auto text =
      std::make_shared<SplitText>(read_split_text(Corpus::open(options.data), split, split_config, model.tokenizer()));
  ScoreTask task{.source = text->source, .window = split_config.tokens_per_sequence};
  for (const std::vector<int>& piece_ids : text->pieces)
    task.ids.insert(task.ids.end(), piece_ids.begin(), piece_ids.end());
  task.run = [text](Model& loaded, const LogitsSink& sink) { return losses_of_split(loaded, *text, sink); };
  return task;
}

void check(const ScoreOptions& options) {
  if (options.text.empty() && options.data.empty())
    throw Error(Fault::kConfig, "no text: name a file with --text FILE, or a data folder with --data DIR");
  if (!options.text.empty() && !options.data.empty())
    throw Error(Fault::kConfig, "--text and --data both name the text to score: give one of them");
  if (!options.split.empty() && options.data.empty())
    throw Error(Fault::kConfig, "--split chooses a part of --data DIR: name the folder, or leave it out");
  parse_split(options);
}

Json to_json(const Score& score) {
  Json nlls = Json::array();
  for (const std::optional<float>& nll : score.losses) nlls.push_back(nll ? Json(*nll) : Json());
  return {{"ids", score.ids},
          {"nll", std::move(nlls)},
          {"nll_mean", score.mean_loss()},
          {"bits_per_byte", score.bits_per_byte()},
          {"scored", score.scored_tokens},
          {"scored_bytes", score.scored_bytes}};
}

}  // namespace

int command_score(const Arguments& arguments) {
  ScoreOptions options;
  LoadOptions load;
  Fields fields;
  fields.add(options);
  fields.add(load);
  if (!read_arguments(fields, arguments, kScoreUsage)) return 0;
  const std::string& path =
      arguments.positional("a model: a run folder, a checkpoint folder, a .gguf or a Hugging Face folder");
  check(options);

  LoadedModel model = load_model(path, load);
  ScoreTask task = options.data.empty() ? make_text_task(model, options) : make_split_task(model, options);
  std::vector<std::optional<float>> nlls;
  const auto run = [&](const LogitsSink& sink) { nlls = task.run(model.model(), sink); };
  if (!options.logits.empty()) ignore_sigpipe();
  if (options.logits.empty()) run({});
  else
    write_npy(options.logits, std::ssize(task.ids), model.spec().vocabulary,
              [&](const RowSink& write_row) { run(write_row); });
  const Score score = make_score(model.tokenizer(), std::move(task.ids), std::move(nlls));

  if (options.json) {
    Json json = to_json(score);
    json["text"] = task.source;
    json["context"] = task.window;
    json["compute"] = name(model.compute_dtype());
    json["device"] = model.backend().device;
    std::cout << to_line(json) << "\n";
  } else {
    std::cout << "nll_mean       " << score.mean_loss() << " nats a token\nbits_per_byte  " << score.bits_per_byte()
              << "\ntext           " << task.source << "\nscored         " << score.scored_tokens << " of "
              << score.ids.size() << " tokens, " << score.scored_bytes << " bytes, in windows of " << task.window
              << "\ncompute        " << name(model.compute_dtype()) << "\ndevice         " << model.backend().device
              << "\n";
  }
  return 0;
}

}  // namespace slipway
