// slipway qa MODEL: checks a saved model with a table of gates; exit status 8 when one fails.
#include "src/eval/qa.hpp"

#include <iostream>

#include "launch/commands/command.hpp"
#include "launch/process/write_failures.hpp"
#include "launch/run_folder/saved_config.hpp"
#include "src/config/run_config.hpp"
#include "src/core/file.hpp"
#include "src/core/log.hpp"
#include "src/export/export.hpp"

namespace slipway {
namespace {

constexpr Usage kQaUsage{
    .summary =
        "Checks a model by a table of gates (docs/qa.md): complete, finite, reproducible, better than n-gram\n"
        "baselines. The loss is measured on --text, on the validation split of --data, or on that of the data\n"
        "folder which the run was trained on.",
    .synopsis = "slipway qa MODEL [--text FILE | --data DIR] [--policy FILE] [--json]",
    .example = "slipway qa runs/a",
    .notes =
        "MODEL is a run folder, a checkpoint folder, a .gguf or a Hugging Face folder.\n"
        "Exit status 8 when a gate fails or could not be\n"
        "measured."};

struct QaFlags {
  std::string text, data, policy, untrained_reason;
  Flag json;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("text", self.text, {"measure the loss on this text", "FILE"});
    visit("data", self.data, {"measure the loss on the validation split of this data folder", "DIR"});
    visit("policy", self.policy, {"gates that replace those of configs/qa_policy.json (JSON)", "FILE"});
    visit("untrained", self.untrained_reason,
          {"why the gates of learned quality do not apply; the report keeps this reason", "REASON"});
    visit("json", self.json, "print one JSON object");
  }
};

/// The data folder of the run that a checkpoint belongs to; empty when there is no run, or the folder does not exist.
std::filesystem::path find_data_folder(const ModelBundle& bundle) {
  if (bundle.kind != "checkpoint") return {};
  const std::filesystem::path run = std::filesystem::absolute(bundle.folder).parent_path().parent_path();
  if (!std::filesystem::exists(run / "config.ini")) return {};
  RunConfig config;
  Fields fields;
  config.add_to(fields);
  read_run_config(fields, run);
  if (config.data.path.empty()) return {};
  if (std::filesystem::exists(config.data.path)) return config.data.path;
  log::warn(join("the run's data folder ", config.data.path,
                 " is not there; name it with --data DIR, or a text with --text FILE"));
  return {};
}

std::optional<TextSample> load_text_sample(const ModelBundle& bundle, const QaFlags& flags) {
  if (!flags.text.empty() && !flags.data.empty())
    throw Error(Fault::kConfig, "--text and --data both name the text to measure on: give one of them");
  if (!flags.text.empty()) return sample_from_text(*bundle.tokenizer, read_file(flags.text, Fault::kData), flags.text);
  const std::filesystem::path folder =
      flags.data.empty() ? find_data_folder(bundle) : std::filesystem::path(flags.data);
  if (folder.empty()) return std::nullopt;
  return sample_from_corpus(Corpus::open(folder), *bundle.tokenizer);
}

}  // namespace

int command_qa(const Arguments& arguments) {
  QaFlags flags;
  QaOptions options;
  Fields fields;
  fields.add(flags);
  fields.add(options.load);
  if (!read_arguments(fields, arguments, kQaUsage)) return 0;
  ignore_sigpipe();
  const std::string& path =
      arguments.positional("a model: a run folder, a checkpoint folder, a .gguf or a Hugging Face folder");
  if (!flags.policy.empty()) options.policy = QaPolicy::load(flags.policy);
  options.untrained_reason = flags.untrained_reason;
  options.exporter = [](const ModelBundle& bundle, const std::filesystem::path& gguf) {
    export_gguf(bundle.spec, *bundle.tokenizer, *bundle.source, TensorType::kF32, gguf);
  };
  const ModelBundle bundle = open_model(path, options.load.checkpoint);
  options.text = load_text_sample(bundle, flags);

  const QaReport report = run_qa(bundle, options);
  if (flags.json) std::cout << to_line(report.json) << "\n";
  else std::cout << report.table;
  if (report.passed) return 0;
  throw Error(Fault::kGate,
              join(path, " does not pass: ", report.blocking_gates, "; the table says why, docs/qa.md what to do"));
}

}  // namespace slipway
