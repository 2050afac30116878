#include "launch/commands/command.hpp"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <map>

#include "src/core/words.hpp"

namespace slipway {

const std::string& Arguments::target(const char* wanted) const {
  if (targets.size() == 1) return targets.front();
  throw Error(Fault::kConfig, targets.empty() ? join("expected ", wanted, "; none was given")
                                              : join("expected ", wanted, "; found ", targets.size(),
                                                     ", the second is '", targets[1], "'"));
}

void Arguments::refuse_targets(const char* command) const {
  if (!targets.empty())
    throw Error(Fault::kConfig, join(command, " takes no target, only --key value; found '", targets.front(), "'"));
}

bool asks_for_help(const std::string& word) { return word == "--help" || word == "-h" || word == "--help=all"; }

namespace {

/// `lines`, each indented by two spaces.
std::string indented(const std::string& lines) {
  std::string text = "  ";
  for (const char c : lines) text += c == '\n' ? "\n  " : std::string(1, c);
  return text + "\n";
}

}  // namespace

int run_subcommand(const std::string& command, std::span<const Subcommand> forms, const Arguments& arguments) {
  const std::string name = arguments.targets.empty() ? "" : arguments.targets.front();
  std::vector<std::string> names;
  for (const Subcommand& form : forms) {
    names.emplace_back(form.name);
    if (name == form.name) return form.run({{arguments.targets.begin() + 1, arguments.targets.end()}, arguments.flags});
  }
  if (name.empty() && std::any_of(arguments.flags.begin(), arguments.flags.end(), asks_for_help)) {
    for (const Subcommand& form : forms)
      std::cout << form.usage.summary << "\n" << indented(form.usage.forms) << indented(form.usage.example) << "\n";
    std::cout << "Each has its own help: slipway " << command << " " << names.front() << " -h\n";
    return 0;
  }
  const std::string near = name.empty() ? "" : nearest(name, names);
  throw Error(Fault::kConfig, join("slipway ", command, " is followed by ", join_or(names),
                                   name.empty() ? "" : join("; found '", name, "'"),
                                   near.empty() ? "" : join(", did you mean ", near, "?")));
}

void read_config_file(Fields& fields, const std::filesystem::path& file) {
  std::map<std::string, std::string> before;
  for (const Field& field : fields.all())
    if (field.change == ResumePolicy::kPath) before[field.key] = field.get();
  fields.read_file(file);
  for (const auto& [key, was] : before) {
    const std::string now = fields.at(key).get();
    if (now == was || now.empty() || std::filesystem::path(now).is_absolute()) continue;
    fields.set(key, (file.parent_path() / now).lexically_normal().string());
  }
}

bool read_arguments(Fields& fields, const Arguments& arguments, const Usage& usage) {
  std::vector<std::string> flags, files;
  bool wants_help = false, wants_all = false;
  for (std::size_t i = 0; i < arguments.flags.size(); ++i) {
    const std::string& flag = arguments.flags[i];
    if (asks_for_help(flag)) {
      wants_help = true;
      wants_all =
          wants_all || flag == "--help=all" || (i + 1 < arguments.flags.size() && arguments.flags[i + 1] == "all");
    } else if (flag == "--config") {
      if (i + 1 == arguments.flags.size() || arguments.flags[i + 1].starts_with("-"))
        throw Error(Fault::kConfig, "--config names no file; write --config FILE");
      while (i + 1 < arguments.flags.size() && !arguments.flags[i + 1].starts_with("-"))
        files.push_back(arguments.flags[++i]);
    } else if (flag.rfind("--config=", 0) == 0) {
      files.push_back(flag.substr(9));
    } else {
      flags.push_back(flag);
    }
  }
  if (wants_help) {
    std::cout << usage.summary << "\n\nUsage:\n"
              << indented(usage.forms) << "\nExample:\n"
              << indented(usage.example) << "\n"
              << fields.to_help(wants_all);
    if (*usage.notes != '\0') std::cout << "\n" << usage.notes << "\n";
    return false;
  }
  for (const std::string& file : files) read_config_file(fields, file);
  fields.read_flags(flags);
  return true;
}

}  // namespace slipway
