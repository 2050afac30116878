#include "launch/run_folder.hpp"

#include "comm/agreement.hpp"

namespace slipway {
namespace {

/// Nothing, or one sentence about what stands in the way.
std::string obstacle(const std::filesystem::path& run) {
  namespace fs = std::filesystem;
  if (!fs::exists(run)) return "";
  if (!fs::is_directory(run)) return join(run.string(), " is a file; --run names a folder for a new run");
  for (const auto& entry : fs::directory_iterator(run)) {
    const std::string name = entry.path().filename().string();
    if (name == "lock" || name == "events") continue;  // of a start that failed before it wrote its config.ini
    if (fs::exists(run / "config.ini"))
      return join("--run ", run.string(), " already holds a run; continue it with --resume ", run.string(),
                  ", or name a new folder");
    return join("--run ", run.string(), " is not empty (it holds ", entry.path().filename().string(),
                "); name a new folder");
  }
  return "";
}

}  // namespace

void make_run_folder(const std::filesystem::path& run, Group& all) {
  do_together(all, [&] {
    if (all.rank() != 0) return;
    if (const std::string problem = obstacle(run); !problem.empty()) throw Error(Fault::kConfig, problem);
    std::error_code reason;
    std::filesystem::create_directories(run, reason);
    if (reason)
      throw Error(Fault::kStorage, join("cannot make ", run.string(), ": ", reason.message(),
                                        "; name another folder with --run, or mend that disk"));
  });
}

std::string relative_to(const std::filesystem::path& path, const std::filesystem::path& base) {
  return std::filesystem::proximate(std::filesystem::weakly_canonical(path), std::filesystem::weakly_canonical(base))
      .string();
}

std::map<std::string, std::string> values_of(const Json& config) {
  std::map<std::string, std::string> values;
  for (const auto& [key, value] : config.items())
    if (value.is_string()) values[key] = value.get<std::string>();
  return values;
}

void refuse_fixed_changes(const std::map<std::string, std::string>& before, const Fields& now, const char* whose) {
  for (const Field& field : now.all()) {
    const auto was = before.find(field.key);
    if (was == before.end() || field.change != Change::kFixed) continue;
    if (was->second != field.get())
      throw Error(Fault::kConfig, join(field.key, " is ", field.get(), " but ", whose, " ", was->second,
                                       "; it cannot change on --resume. Leave it out, or begin a new run with --run"));
  }
}

}  // namespace slipway
