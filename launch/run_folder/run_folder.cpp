#include "launch/run_folder/run_folder.hpp"

#include "comm/agreement.hpp"
#include "io/checkpoint/checkpoint_folder.hpp"
#include "src/core/file.hpp"
#include "src/core/json.hpp"
#include "src/core/log.hpp"

namespace slipway {
namespace {

/// Whether the folder holds a run that ended before its first step, so that it may be overwritten.
bool is_unstarted(const std::filesystem::path& run_folder) {
  namespace fs = std::filesystem;
  const fs::path metrics = run_folder / "metrics.jsonl", checkpoints = run_folder / "checkpoints";
  std::error_code ignored;  // on errors the folder is kept
  const auto path_exists = [&](const char* name) { return fs::exists(run_folder / name, ignored); };
  return path_exists("config.ini") && path_exists("resolved.ini") &&  // which a run writes, and nobody else
         (!fs::exists(metrics, ignored) || fs::file_size(metrics, ignored) == 0) &&
         (!fs::exists(checkpoints, ignored) || fs::is_empty(checkpoints, ignored));
}

/// One sentence that says why the folder cannot be used for a new run; empty: it can.
std::string find_obstacle(const std::filesystem::path& run_folder) {
  namespace fs = std::filesystem;
  if (!fs::exists(run_folder)) return "";
  if (!fs::is_directory(run_folder)) return join(run_folder.string(), " is a file; --run names a folder for a new run");
  for (const auto& entry : fs::directory_iterator(run_folder)) {
    const std::string name = entry.path().filename().string();
    if (name == "lock" || name == "events" || name.starts_with("resolved.ini") || name.starts_with("config.ini."))
      continue;  // of a start that failed before it wrote its config.ini
    if (fs::exists(run_folder / "config.ini"))
      return join("--run ", run_folder.string(), " already holds a run; continue it with --resume ",
                  run_folder.string(), ", or name a new folder");
    return join("--run ", run_folder.string(), " is not empty (it holds ", entry.path().filename().string(),
                "); name a new folder");
  }
  return "";
}

}  // namespace

void make_run_folder(const std::filesystem::path& run_folder, Group& world_group) {
  run_collectively(world_group, [&] {
    if (world_group.rank() != 0) return;
    if (is_unstarted(run_folder))
      log::info(join(run_folder.string(), " holds a run that ended before its first step; it is begun anew"));
    else if (const std::string problem = find_obstacle(run_folder); !problem.empty())
      throw Error(Fault::kConfig, problem);
    std::error_code reason;
    std::filesystem::create_directories(run_folder, reason);
    if (reason)
      throw Error(Fault::kStorage, join("cannot make ", run_folder.string(), ": ", reason.message(),
                                        "; name another folder with --run, or mend that disk"));
  });
}

void check_immutable_keys(const Values& saved_values, const Fields& fields, const char* value_description,
                          const std::filesystem::path& run_folder) {
  for (const Field& field : fields.all()) {
    const auto saved_value = saved_values.find(field.key);
    if (saved_value == saved_values.end() || field.resume_policy != ResumePolicy::kImmutable ||
        saved_value->second == field.get())
      continue;
    const bool is_shape_key = field.key.starts_with("model.") && field.key != "model.context";
    throw Error(
        Fault::kConfig,
        join(field.key, " is ", field.get(), " but ", value_description, " ", saved_value->second,
             "; it cannot change on --resume. Leave it out, or begin a new run with ",
             is_shape_key ? std::string("--run NEW")
                          : join("it from a checkpoint of this one: --fork ", run_folder.string(), " --run NEW")));
  }
}

void record_failure(const std::filesystem::path& run_folder, const char* status, std::string_view fault,
                    const std::string& error_message) {
  try {
    const std::filesystem::path file = run_folder / "status.json";
    Json old_status = Json::object();
    try {
      if (std::filesystem::exists(file)) old_status = read_json(file, Fault::kStorage);
    } catch (const Error&) {  // damaged
    }
    if (!old_status.is_object()) old_status = Json::object();
    if (old_status.contains("status") && old_status["status"] != "running") return;
    Json status_json = {{"schema", "slipway.status"}, {"schema_version", 1},
                        {"status", status},           {"fault", fault},
                        {"error", error_message},     {"warnings", log::warnings()}};
    for (const char* key : {"run_id", "parent", "val_loss"})
      if (old_status.contains(key)) status_json[key] = old_status[key];
    const auto checkpoint_list = list_checkpoints(run_folder / "checkpoints");
    if (!checkpoint_list.empty()) status_json["step"] = checkpoint_list.back().step;  // where a resume goes on
    atomic_write_file(file, to_pretty(status_json));
  } catch (const std::exception&) {
    // The disk that failed the run may fail this write too; the user is told the run's error.
  }
}

}  // namespace slipway
