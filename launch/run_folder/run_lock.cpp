#include "launch/run_folder/run_lock.hpp"

#include <array>
#include <string>

#include "src/core/error.hpp"
#include "src/core/log.hpp"

namespace slipway {
namespace {

/// Rank 0's result, which is broadcast to all ranks.
struct Outcome {
  LockFile::State state = LockFile::State::kHeld;
  std::array<char, 512> detail{};
};

}  // namespace

RunLock::RunLock(const std::filesystem::path& run_folder, Group& world_group) {
  const std::filesystem::path path = run_folder / "lock";
  Outcome outcome;
  if (world_group.rank() == 0) {
    file_ = LockFile(path);
    file_.share();
    outcome.state = file_.state();
    file_.detail().copy(outcome.detail.data(), outcome.detail.size() - 1);
  }
  world_group.broadcast(&outcome, sizeof outcome, 0);

  switch (outcome.state) {
    case LockFile::State::kHeld:
      if (world_group.rank() != 0)
        file_ = LockFile::lock_shared(path);  // does nothing on a host that does not see the folder
      world_group.barrier();                  // from here on the lock outlives rank 0
      return;
    case LockFile::State::kNoFlock:
      if (world_group.rank() == 0)
        log::warn(join("the file system of ", path.string(), " has no locks (", outcome.detail.data(),
                       "): make sure that no second run uses this folder"));
      return;
    case LockFile::State::kCannotOpen:
      throw Error(Fault::kStorage, join("cannot open ", path.string(), ": ", outcome.detail.data()));
    case LockFile::State::kHeldByAnother: break;
  }
  throw Error(Fault::kConfig, join(run_folder.string(), " is in use by ", outcome.detail.data(), " (it holds ",
                                   path.string(), "): wait for it, stop it, or choose another --run"));
}

}  // namespace slipway
