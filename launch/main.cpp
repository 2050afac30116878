// slipway <command> [target] [--config FILE]... [--key value]...
#include <algorithm>
#include <iostream>
#include <string>
#include <vector>

#include "launch/commands/command.hpp"
#include "launch/process/crash_record.hpp"
#include "launch/process/launcher.hpp"
#include "launch/process/spinning_threads.hpp"
#include "launch/process/streams.hpp"
#include "launch/process/write_failures.hpp"

namespace slipway {
namespace {

struct Command {
  const char* name;
  int (*run)(const Arguments&);
  const char* summary;
};

/// Commands of one topic, in the order in which they are usually run.
struct CommandGroup {
  const char* title;
  std::vector<Command> commands;
};

const std::vector<CommandGroup>& groups() {
  static const std::vector<CommandGroup> command_groups = {
      {"Text",
       {{"tokenizer", command_tokenizer, "train a tokenizer; encode and decode with it"},
        {"data", command_data, "prepare a data folder of token shards from texts; verify, inspect"}}},
      {"Training",
       {{"plan", command_plan, "parameters, memory and time of a run before it starts"},
        {"train", command_train, "train a model, on one process or under mpirun; --resume continues a run"},
        {"checkpoint", command_checkpoint, "verify, inspect, diff, consolidate"}}},
      {"The model",
       {{"generate", command_generate, "continue a prompt"},
        {"score", command_score, "loss of each token of a text"},
        {"qa", command_qa, "check a model: complete, finite, reproducible, better than n-gram baselines"},
        {"bench", command_bench, "prompt and decode speed"},
        {"export", command_export, "write GGUF for llama.cpp or a folder for transformers, reopened and compared"}}},
      {"This machine",
       {{"doctor", command_doctor, "what is installed, what would run, and how to get what is missing"}}},
  };
  return command_groups;
}

void print_help() {
  std::cout << "Slipway " << SLIPWAY_VERSION
            << " trains language models, from text to a verified GGUF.\n\n"
               "Usage:\n"
               "  slipway <command> [target] [--config FILE]... [--key value]...\n\n"
               "Two minutes, from the texts in a folder to a GGUF:\n"
               "  slipway tokenizer train --input texts --tokenizer.vocabulary 1024 --out tokenizer.json\n"
               "  slipway data prepare --tokenizer tokenizer.json --input texts --out data\n"
               "  slipway train --run runs/first --data data --model.preset llama-1m --train.steps 100\n"
               "  slipway generate runs/first --prompt \"Once upon a time\"\n"
               "  slipway export runs/first --out first.gguf\n";
  for (const CommandGroup& group : groups()) {
    std::cout << "\n" << group.title << ":\n";
    for (const Command& command : group.commands)
      std::cout << "  " << std::string(command.name).append(12 - std::string(command.name).size(), ' ')
                << command.summary << "\n";
  }
  std::cout << "\n"
               "  slipway <command> -h          the options that people need first, with an example\n"
               "  slipway <command> --help all  every option and key\n"
               "  slipway --version [--json]    version and what was built in\n\n"
               "Exit status: 0 good, 2 config, 3 data, 4 storage, 5 comm, 6 device, 7 numeric, 8 gate, 9 bug;\n"
               "128+n stopped and saved on signal n.\n";
}

int run(const std::vector<std::string>& args) {
  if (args.empty() || is_help_flag(args[0]) || (args[0] == "help" && args.size() == 1)) {
    print_help();
    return args.empty() ? static_cast<int>(Fault::kConfig) : 0;
  }
  if (args[0] == "help") {  // slipway help train
    std::vector<std::string> help_args(args.begin() + 1, args.end());
    help_args.emplace_back("--help");
    return run(help_args);
  }
  if (args[0] == "--version") return command_version({{}, {args.begin() + 1, args.end()}});
  std::vector<std::string> names;
  for (const CommandGroup& group : groups()) {
    for (const Command& command : group.commands) {
      names.emplace_back(command.name);
      if (args[0] != command.name) continue;
      const auto is_option = [](const std::string& word) { return word.size() > 1 && word[0] == '-'; };
      const auto flags = std::find_if(args.begin() + 1, args.end(), is_option);
      return command.run({{args.begin() + 1, flags}, {flags, args.end()}});
    }
  }
  const std::string closest = nearest(args[0], names);
  throw Error(Fault::kConfig, join("'", args[0], "' is no command; ",
                                   closest.empty() ? "slipway --help lists them" : "did you mean " + closest + "?"));
}

/// Checks that the CPU has this build's instruction set, before an unsupported instruction ends the process.
void check_cpu() {
#if defined(__AVX2__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
    throw Error(
        Fault::kDevice,
        "this CPU has no AVX2 and FMA, which this build needs; configure with -DSLIPWAY_ARCH=x86-64 and build again");
#endif
}

}  // namespace
}  // namespace slipway

int main(int argc, char** argv) {
  slipway::limit_spin_count(argv);
  slipway::open_standard_streams();
  slipway::install_crash_handlers();
  slipway::ignore_sigxfsz();
  return slipway::run_guarded([&] {
    slipway::check_cpu();
    return slipway::run({argv + 1, argv + argc});
  });
}
