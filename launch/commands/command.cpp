#include "launch/commands/command.hpp"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <map>

#include "src/core/words.hpp"

namespace slipway {

const std::string& Arguments::positional(const char* expected) const {
  if (positionals.size() == 1) return positionals.front();
  throw Error(Fault::kConfig, positionals.empty() ? join("expected ", expected, "; none was given")
                                                  : join("expected ", expected, "; found ", positionals.size(),
                                                         ", the second is '", positionals[1], "'"));
}

void Arguments::reject_positionals(const char* command) const {
  if (!positionals.empty())
    throw Error(Fault::kConfig, join(command, " takes no target, only --key value; found '", positionals.front(), "'"));
}

bool is_help_flag(const std::string& word) { return word == "--help" || word == "-h" || word == "--help=all"; }

namespace {

/// `lines`, each indented by two spaces.
std::string indent(const std::string& lines) {
  std::string text = "  ";
  for (const char c : lines) text += c == '\n' ? "\n  " : std::string(1, c);
  return text + "\n";
}

}  // namespace

int run_subcommand(const std::string& command, std::span<const Subcommand> subcommands, const Arguments& arguments) {
  const std::string name = arguments.positionals.empty() ? "" : arguments.positionals.front();
  std::vector<std::string> names;
  for (const Subcommand& subcommand : subcommands) {
    names.emplace_back(subcommand.name);
    if (name == subcommand.name)
      return subcommand.run({{arguments.positionals.begin() + 1, arguments.positionals.end()}, arguments.flags});
  }
  if (name.empty() && std::any_of(arguments.flags.begin(), arguments.flags.end(), is_help_flag)) {
    for (const Subcommand& subcommand : subcommands)
      std::cout << subcommand.usage.summary << "\n"
                << indent(subcommand.usage.synopsis) << indent(subcommand.usage.example) << "\n";
    std::cout << "Each has its own help: slipway " << command << " " << names.front() << " -h\n";
    return 0;
  }
  const std::string closest = name.empty() ? "" : nearest(name, names);
  throw Error(Fault::kConfig, join("slipway ", command, " is followed by ", join_or(names),
                                   name.empty() ? "" : join("; found '", name, "'"),
                                   closest.empty() ? "" : join(", did you mean ", closest, "?")));
}

void read_config_file(Fields& fields, const std::filesystem::path& file) {
  std::map<std::string, std::string> old_paths;
  for (const Field& field : fields.all())
    if (field.resume_policy == ResumePolicy::kPath) old_paths[field.key] = field.get();
  fields.read_file(file);
  for (const auto& [key, old_value] : old_paths) {
    const std::string new_value = fields.at(key).get();
    if (new_value == old_value || new_value.empty() || std::filesystem::path(new_value).is_absolute()) continue;
    fields.set(key, (file.parent_path() / new_value).lexically_normal().string());
  }
}

bool read_arguments(Fields& fields, const Arguments& arguments, const Usage& usage) {
  std::vector<std::string> flags, config_files;
  bool show_help = false, show_all = false;
  for (std::size_t i = 0; i < arguments.flags.size(); ++i) {
    const std::string& flag = arguments.flags[i];
    if (is_help_flag(flag)) {
      show_help = true;
      show_all =
          show_all || flag == "--help=all" || (i + 1 < arguments.flags.size() && arguments.flags[i + 1] == "all");
    } else if (flag == "--config") {
      if (i + 1 == arguments.flags.size() || arguments.flags[i + 1].starts_with("-"))
        throw Error(Fault::kConfig, "--config names no file; write --config FILE");
      while (i + 1 < arguments.flags.size() && !arguments.flags[i + 1].starts_with("-"))
        config_files.push_back(arguments.flags[++i]);
    } else if (flag.rfind("--config=", 0) == 0) {
      config_files.push_back(flag.substr(9));
    } else {
      flags.push_back(flag);
    }
  }
  if (show_help) {
    std::cout << usage.summary << "\n\nUsage:\n"
              << indent(usage.synopsis) << "\nExample:\n"
              << indent(usage.example) << "\n"
              << fields.to_help(show_all);
    if (*usage.notes != '\0') std::cout << "\n" << usage.notes << "\n";
    return false;
  }
  for (const std::string& file : config_files) read_config_file(fields, file);
  fields.read_flags(flags);
  return true;
}

}  // namespace slipway
