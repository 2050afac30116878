// The commands of the program, and what each is given.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "src/core/config.hpp"

namespace slipway {

class World;

#if defined(__clang__)
constexpr const char* kCompiler = __VERSION__;  ///< which begins with its name
#else
constexpr const char* kCompiler = "GCC " __VERSION__;
#endif

/// The words of a command line after the command's own name.
struct Arguments {
  std::vector<std::string> targets;  ///< words before the first --flag or -h
  std::vector<std::string> flags;    ///< everything from it on

  /// The one target. Errors: Fault::kConfig saying what is wanted when there is none, or more than one.
  const std::string& target(const char* wanted) const;
  /// Errors: Fault::kConfig when `command`, which takes its input by flags alone, was given a target.
  void refuse_targets(const char* command) const;
};

/// What --help says about a command before its options.
struct Usage {
  const char* summary;     ///< one sentence, or a few
  const char* forms;       ///< lines that begin with "slipway"
  const char* example;     ///< a line that can be typed as it stands
  const char* notes = "";  ///< what else one should know
};

/// One form of a command that has several: the `verify` of `data verify DIR`.
struct Subcommand {
  const char* name;
  Usage usage;
  int (*run)(const Arguments&);
};

/// Is this word a request for help?
bool asks_for_help(const std::string& word);

/// Runs the form that the first target names, with the targets after it; `--help` without a form lists them all.
/// Errors   Fault::kConfig listing the forms, when none is named.
int run_subcommand(const std::string& command, std::span<const Subcommand> forms, const Arguments& arguments);

// One per file in launch/commands/. Each returns the exit status.
int command_tokenizer(const Arguments& arguments);  ///< train, encode, decode
int command_data(const Arguments& arguments);       ///< prepare, verify, inspect
int command_train(const Arguments& arguments);
/// The same in a process that trains more than once, as tests do: MPI starts and ends only once in each.
int command_train(const Arguments& arguments, const std::function<World&()>& start_world);
int command_checkpoint(const Arguments& arguments);  ///< verify, inspect, diff, consolidate
int command_score(const Arguments& arguments);
int command_generate(const Arguments& arguments);
int command_qa(const Arguments& arguments);
int command_bench(const Arguments& arguments);
int command_export(const Arguments& arguments);
int command_plan(const Arguments& arguments);
int command_doctor(const Arguments& arguments);
int command_version(const Arguments& arguments);  ///< what `slipway --version` prints

/// Reads flags into `fields`, after every `--config FILE` among them, in order. `-h` or `--help`, wherever it stands,
/// prints `usage` and the options that people need first (`--help all`: every one) and returns false: the command is
/// then done.
bool read_arguments(Fields& fields, const Arguments& arguments, const Usage& usage);

/// Reads one INI file; a relative path in it (ResumePolicy::kPath) is meant relative to that file.
void read_config_file(Fields& fields, const std::filesystem::path& file);

}  // namespace slipway
