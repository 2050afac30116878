#include "launch/run_folder/run_folder.hpp"

#include "comm/agreement.hpp"
#include "io/checkpoint/checkpoint_folder.hpp"
#include "src/core/file.hpp"
#include "src/core/json.hpp"
#include "src/core/log.hpp"

namespace slipway {
namespace {

/// Whether the folder holds a run that ended before its first step, so that it may be overwritten.
bool has_done_nothing(const std::filesystem::path& run) {
  namespace fs = std::filesystem;
  const fs::path metrics = run / "metrics.jsonl", checkpoints = run / "checkpoints";
  std::error_code unread;  // on errors the folder is kept
  const auto is_there = [&](const char* name) { return fs::exists(run / name, unread); };
  return is_there("config.ini") && is_there("resolved.ini") &&  // which a run writes, and nobody else
         (!fs::exists(metrics, unread) || fs::file_size(metrics, unread) == 0) &&
         (!fs::exists(checkpoints, unread) || fs::is_empty(checkpoints, unread));
}

/// One sentence that says why the folder cannot be used for a new run; empty: it can.
std::string obstacle(const std::filesystem::path& run) {
  namespace fs = std::filesystem;
  if (!fs::exists(run)) return "";
  if (!fs::is_directory(run)) return join(run.string(), " is a file; --run names a folder for a new run");
  for (const auto& entry : fs::directory_iterator(run)) {
    const std::string name = entry.path().filename().string();
    if (name == "lock" || name == "events" || name.starts_with("resolved.ini") || name.starts_with("config.ini."))
      continue;  // of a start that failed before it wrote its config.ini
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
  run_collectively(all, [&] {
    if (all.rank() != 0) return;
    if (has_done_nothing(run))
      log::info(join(run.string(), " holds a run that ended before its first step; it is begun anew"));
    else if (const std::string problem = obstacle(run); !problem.empty()) throw Error(Fault::kConfig, problem);
    std::error_code reason;
    std::filesystem::create_directories(run, reason);
    if (reason)
      throw Error(Fault::kStorage, join("cannot make ", run.string(), ": ", reason.message(),
                                        "; name another folder with --run, or mend that disk"));
  });
}

void check_immutable_keys(const Values& before, const Fields& now, const char* whose,
                          const std::filesystem::path& run) {
  for (const Field& field : now.all()) {
    const auto was = before.find(field.key);
    if (was == before.end() || field.change != ResumePolicy::kImmutable || was->second == field.get()) continue;
    const bool shape = field.key.starts_with("model.") && field.key != "model.context";
    throw Error(Fault::kConfig,
                join(field.key, " is ", field.get(), " but ", whose, " ", was->second,
                     "; it cannot change on --resume. Leave it out, or begin a new run with ",
                     shape ? std::string("--run NEW")
                           : join("it from a checkpoint of this one: --fork ", run.string(), " --run NEW")));
  }
}

void record_failure(const std::filesystem::path& run, const char* status, std::string_view fault,
                    const std::string& why) {
  try {
    const std::filesystem::path file = run / "status.json";
    Json before = Json::object();
    try {
      if (std::filesystem::exists(file)) before = read_json(file, Fault::kStorage);
    } catch (const Error&) {  // damaged
    }
    if (!before.is_object()) before = Json::object();
    if (before.contains("status") && before["status"] != "running") return;
    Json now = {
        {"schema", "slipway.status"}, {"schema_version", 1}, {"status", status}, {"fault", fault}, {"error", why},
        {"warnings", log::warnings()}};
    for (const char* key : {"run_id", "parent", "val_loss"})
      if (before.contains(key)) now[key] = before[key];
    const auto saved = list_checkpoints(run / "checkpoints");
    if (!saved.empty()) now["step"] = saved.back().step;  // where a resume goes on
    replace_file(file, to_pretty(now));
  } catch (const std::exception&) {
    // The disk that failed the run may fail this write too; the user is told the run's error.
  }
}

}  // namespace slipway
