// The commands of the program, and their arguments.
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
constexpr const char* kCompiler = __VERSION__;  ///< begins with the compiler's name
#else
constexpr const char* kCompiler = "GCC " __VERSION__;
#endif

/// The words of a command line after the command's own name.
struct Arguments {
  std::vector<std::string> positionals;  ///< words before the first --flag or -h
  std::vector<std::string> flags;        ///< all words from that flag on

  /// The only target. Errors: Fault::kConfig naming `expected` when there is no target, or more than one.
  const std::string& positional(const char* expected) const;
  /// Errors: Fault::kConfig when `command`, which takes its input by flags alone, was given a target.
  void reject_positionals(const char* command) const;
};

/// What --help says about a command before its options.
struct Usage {
  const char* summary;     ///< one sentence, or a few
  const char* synopsis;    ///< lines that begin with "slipway"
  const char* example;     ///< a complete command line
  const char* notes = "";  ///< printed after the options
};

/// One form of a command that has several: the `verify` of `data verify DIR`.
struct Subcommand {
  const char* name;
  Usage usage;
  int (*run)(const Arguments&);
};

/// Is this word a request for help?
bool is_help_flag(const std::string& word);

/// Runs the form that the first target names, with the targets after it; `--help` without a form lists them all.
/// Errors   Fault::kConfig listing the forms, when none is named.
int run_subcommand(const std::string& command, std::span<const Subcommand> subcommands, const Arguments& arguments);

// One per file in launch/commands/. Each returns the exit status.
int command_tokenizer(const Arguments& arguments);  ///< train, encode, decode
int command_data(const Arguments& arguments);       ///< prepare, verify, inspect
int command_train(const Arguments& arguments);
/// The same for a process that trains more than once, such as a test: MPI can be initialized only once per process.
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

/// Reads every `--config FILE` among the flags into `fields`, in order, then the other flags. `-h` or `--help`, in any
/// position, prints `usage` and the most common options (`--help all`: all options) and returns false: the command then
/// has nothing else to do.
bool read_arguments(Fields& fields, const Arguments& arguments, const Usage& usage);

/// Reads one INI file; a relative path in it (ResumePolicy::kPath) is relative to that file's folder.
void read_config_file(Fields& fields, const std::filesystem::path& file);

}  // namespace slipway
