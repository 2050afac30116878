#include "launch/run_folder.hpp"

namespace slipway {
namespace {

/// Nothing, or one sentence about what stands in the way.
std::string obstacle(const std::filesystem::path& run) {
  namespace fs = std::filesystem;
  if (!fs::exists(run)) return "";
  if (!fs::is_directory(run)) return join(run.string(), " is a file; --run names a folder for a new run");
  for (const auto& entry : fs::directory_iterator(run)) {
    if (entry.path().filename() == "lock") continue;
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
  std::string problem;
  if (all.rank() == 0) {
    problem = obstacle(run);
    std::error_code reason;
    if (problem.empty()) std::filesystem::create_directories(run, reason);
    if (reason) problem = join("cannot make ", run.string(), ": ", reason.message());
  }
  const std::string found = all.all_gather_text(problem).front();
  if (!found.empty()) throw Error(Fault::kConfig, found);
}

std::string relative_to(const std::filesystem::path& path, const std::filesystem::path& base) {
  return std::filesystem::proximate(std::filesystem::weakly_canonical(path), std::filesystem::weakly_canonical(base))
      .string();
}

void refuse_fixed_changes(const Fields& saved, const Fields& wanted) {
  for (const Field& field : wanted.all()) {
    if (!field.given || field.change != Change::kFixed || field.key == "data.path" || !saved.has(field.key)) continue;
    const std::string before = saved.at(field.key).get(), now = field.get();
    if (before != now)
      throw Error(Fault::kConfig, join(field.key, " is ", now, " but this run was begun with ", before,
                                       "; it cannot change on --resume. Leave it out, or begin a new run with --run"));
  }
}

}  // namespace slipway
