#include "launch/command.hpp"

#include <filesystem>
#include <iostream>

namespace slipway {
namespace {

/// A data folder named in a file is meant relative to that file.
void rebase_data_path(Fields& fields, const std::filesystem::path& file, const std::string& before) {
  if (!fields.has("data.path")) return;
  const std::string now = fields.at("data.path").get();
  if (now == before || now.empty() || std::filesystem::path(now).is_absolute()) return;
  fields.set("data.path", (file.parent_path() / now).lexically_normal().string());
}

}  // namespace

const std::string& Arguments::target(const char* wanted) const {
  if (targets.size() == 1) return targets.front();
  throw Error(Fault::kConfig, targets.empty() ? join("expected ", wanted, "; none was given")
                                              : join("expected one ", wanted, "; found ", targets.size(), ", the second is '", targets[1], "'"));
}

void read_config_file(Fields& fields, const std::filesystem::path& file) {
  const std::string before = fields.has("data.path") ? fields.at("data.path").get() : "";
  fields.read_file(file);
  rebase_data_path(fields, file, before);
}

bool read_arguments(Fields& fields, const Arguments& arguments, const std::string& usage) {
  std::vector<std::string> flags, files;
  bool wants_help = false;
  for (std::size_t i = 0; i < arguments.flags.size(); ++i) {
    const std::string& flag = arguments.flags[i];
    if (flag == "--help") {
      wants_help = true;
    } else if (flag == "--config") {
      if (i + 1 == arguments.flags.size() || arguments.flags[i + 1].rfind("--", 0) == 0)
        throw Error(Fault::kConfig, "--config names no file; write --config FILE");
      while (i + 1 < arguments.flags.size() && arguments.flags[i + 1].rfind("--", 0) != 0) files.push_back(arguments.flags[++i]);
    } else if (flag.rfind("--config=", 0) == 0) {
      files.push_back(flag.substr(9));
    } else {
      flags.push_back(flag);
    }
  }
  if (wants_help) {
    std::cout << usage << "\n\n" << fields.to_help() << "  --config FILE...                keys from INI files, in order, before the flags\n";
    return false;
  }
  for (const std::string& file : files) read_config_file(fields, file);
  fields.read_flags(flags);
  return true;
}

}  // namespace slipway
