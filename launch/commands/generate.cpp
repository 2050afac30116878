// slipway generate MODEL --prompt TEXT: text from a model.
#include "src/infer/generate.hpp"

#include <unistd.h>

#include <iomanip>
#include <iostream>

#include "launch/commands/command.hpp"
#include "launch/process/streams.hpp"
#include "src/core/json.hpp"
#include "src/core/log.hpp"
#include "src/core/words.hpp"
#include "src/infer/loaded_model.hpp"

namespace slipway {
namespace {

constexpr Usage kGenerateUsage{
    .summary = "Continues a prompt, and prints the new text as it is generated.",
    .synopsis =
        "slipway generate MODEL --prompt TEXT [--tokens N] [--temperature T] [--top_k K] [--top_p P] [--seed S]\n"
        "    [--stop TEXT]... [--json]",
    .example = "slipway generate runs/a --prompt \"Once upon a time\" --tokens 100",
    .notes = "MODEL is a run folder, a checkpoint folder, a .gguf or a Hugging Face folder."};

struct PromptOptions {
  std::string prompt;
  int tokens = 128;
  std::vector<std::string> stop;
  Flag special, json;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("prompt", self.prompt, "text to continue; empty: begin a document");
    visit("tokens", self.tokens, {"most new tokens", "TOKENS"});
    visit("stop", self.stop, "stop at these texts, which are not printed");
    visit("special", self.special, "parse special tokens in the prompt");
    visit("json", self.json, "print one JSON object at the end");
  }
};

double decode_speed(const Generation& result) {
  return result.ids.size() < 2 || result.decode_s <= 0 ? 0
                                                       : static_cast<double>(result.ids.size() - 1) / result.decode_s;
}

Json to_json(const Generation& result) {
  return {{"text", result.text},
          {"ids", result.ids},
          {"prompt_ids", result.prompt_ids},
          {"stopped_by", name(result.reason)},
          {"stop", result.stop},
          {"first_token_ms", result.first_token_ms},
          {"decode_tokens_per_s", decode_speed(result)}};
}

void print_text(std::string_view text) {
  std::cout << text;
  check_output();  // stops generating when the output cannot be written
}

}  // namespace

int command_generate(const Arguments& arguments) {
  PromptOptions options;
  SamplingConfig sampling;
  LoadOptions load;
  Fields fields;
  fields.add(options);
  fields.add(sampling);
  fields.add(load);
  if (!read_arguments(fields, arguments, kGenerateUsage)) return 0;
  sampling.check();
  if (options.tokens < 1)
    throw Error(Fault::kConfig, join("--tokens is ", options.tokens, ", but at least 1 is expected"));
  LoadedModel model = load_model(
      arguments.positional("a model: a run folder, a checkpoint folder, a .gguf or a Hugging Face folder"), load);

  const GenerateOptions generate_options{.max_new_tokens = options.tokens,
                                         .stops = options.stop,
                                         .sampling = sampling,
                                         .parse_special = options.special.on};
  const Generation result = generate(model.model(), model.tokenizer(), options.prompt, generate_options,
                                     options.json ? TextSink{} : print_text);
  if (options.json) {
    Json json = to_json(result);
    json["device"] = model.backend().device;
    std::cout << to_line(json) << "\n";
  } else if (::isatty(STDOUT_FILENO) != 0) {
    std::cout << "\n";
  } else if (stdout_is_stderr()) {
    std::cerr << "\n";  // separates the log from the text
  }
  if (result.reason == StopReason::kContextFull)
    log::warn(join("the model's context of ", model.spec().context, " tokens is full after ", result.ids.size(), " of ",
                   options.tokens, " new tokens"));
  if (!options.json)
    log::info(join(pluralize(result.ids.size(), "token"), ", ended by ", name(result.reason), "; first after ",
                   std::fixed, std::setprecision(1), result.first_token_ms, " ms",
                   result.ids.size() > 1
                       ? join(std::fixed, std::setprecision(1), ", then ", decode_speed(result), " tokens/s")
                       : "",
                   " on ", model.backend().device));
  return 0;
}

}  // namespace slipway
