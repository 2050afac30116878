// slipway <command> [target] [--config FILE]... [--key value]...
#include <iostream>
#include <string>
#include <vector>

#include "kernels/table.hpp"
#include "launch/command.hpp"
#include "launch/launcher.hpp"
#include "launch/write_signals.hpp"

namespace slipway {
namespace {

struct Command {
  const char* name;
  int (*run)(const Arguments&);
  const char* summary;
};

constexpr Command kCommands[] = {
    {"doctor", command_doctor, "what is here, what would run where, what is missing and the command that mends it"},
    {"tokenizer", command_tokenizer, "train, encode, decode"},
    {"data", command_data, "prepare, verify, inspect: texts to token shards"},
    {"plan", command_plan, "parameters, operations and memory of a run, before it is run"},
    {"train", command_train, "train a model, alone or under mpirun; --resume RUN continues one"},
    {"checkpoint", command_checkpoint, "verify, inspect, diff, consolidate"},
    {"qa", command_qa, "judge a model file: is it complete, finite, reproducible, better than counting?"},
    {"bench", command_bench, "prompt and decode speed, with raw samples"},
    {"score", command_score, "negative log-likelihood of a text, token by token"},
    {"generate", command_generate, "text from a model"},
    {"export", command_export, "GGUF or a Hugging Face folder, reopened and compared"},
};

void print_help() {
  std::cout << "slipway " << SLIPWAY_VERSION << ": trains language models, from text to a verified GGUF\n\n"
            << "  slipway <command> [target] [--config FILE]... [--key value]...\n\n";
  for (const Command& command : kCommands)
    std::cout << "  " << std::string(command.name).append(12 - std::string(command.name).size(), ' ') << command.summary
              << "\n";
  std::cout << "\n  slipway <command> --help    the command's keys with their defaults\n"
               "  slipway --version           version and what was built in\n\n"
               "Exit status: 0 good, 2 config, 3 data, 4 storage, 5 comm, 6 device, 7 numeric, 8 gate, 9 bug; 128+n "
               "saved on signal n.\n";
}

void print_version() {
  std::cout << "slipway " << SLIPWAY_VERSION << " (GCC " << __VERSION__ << ", " << SLIPWAY_ARCH << ", products by "
            << products_version() << ", CUDA not built in)\n";
}

int run(const std::vector<std::string>& words) {
  if (words.empty() || words[0] == "--help" || words[0] == "help") {
    print_help();
    return words.empty() ? static_cast<int>(Fault::kConfig) : 0;
  }
  if (words[0] == "--version") {
    print_version();
    return 0;
  }
  std::vector<std::string> names;
  for (const Command& command : kCommands) {
    names.emplace_back(command.name);
    if (words[0] != command.name) continue;
    Arguments arguments;
    std::size_t i = 1;
    for (; i < words.size() && words[i].rfind("--", 0) != 0; ++i) arguments.targets.push_back(words[i]);
    arguments.flags.assign(words.begin() + static_cast<std::ptrdiff_t>(i), words.end());
    return command.run(arguments);
  }
  const std::string near = nearest(words[0], names);
  throw Error(Fault::kConfig, join("'", words[0], "' is no command; ",
                                   near.empty() ? "slipway --help lists them" : "did you mean " + near + "?"));
}

/// This build's instructions, before any of them traps.
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

int main(int count, char** words) {
  slipway::report_file_size_limit();
  return slipway::run_guarded([&] {
    slipway::check_cpu();
    return slipway::run({words + 1, words + count});
  });
}
