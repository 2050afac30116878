// A lock file: one process holds it at a time, and its content names the holder.
#pragma once

#include <filesystem>
#include <string>

namespace slipway {

/// Opens (or creates) a file and takes an exclusive flock on it without waiting. The lock lasts as long as this object
/// and the process; the file holds "host pid time" of the last holder. Does not throw: state() says what came out.
class LockFile {
 public:
  enum class State : int { kHeld, kHeldByAnother, kNoFlock, kCannotOpen };

  LockFile() = default;
  explicit LockFile(const std::filesystem::path& path);
  ~LockFile();
  LockFile(LockFile&& other) noexcept;
  LockFile& operator=(LockFile&& other) noexcept;

  /// Takes a shared lock beside other holders that share theirs; a missing file is no error, and nothing is held.
  static LockFile lock_shared(const std::filesystem::path& path);

  /// Lets others lock_shared(). The change is not atomic: another process may take the lock in between, and state()
  /// is then kHeldByAnother.
  void share();

  State state() const { return state_; }
  /// Who holds it ("process 12 on host a since ..."), or the system's reason when it cannot be opened or locked.
  const std::string& detail() const { return detail_; }
  /// Whether the file at `path` is still the one that is held: it was neither removed nor replaced.
  bool is_same_file(const std::filesystem::path& path) const;

 private:
  void set_failure();

  int descriptor_ = -1;
  State state_ = State::kCannotOpen;
  std::string detail_;
};

}  // namespace slipway
