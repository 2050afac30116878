// One run in a folder at a time.
#pragma once

#include <filesystem>

#include "comm/group.hpp"
#include "src/core/lock_file.hpp"

namespace slipway {

/// Holds RUN/lock from construction to the end of the last rank: rank 0 takes it alone, then every rank that sees the
/// file shares it, so that it lasts as long as any of them lives and no longer, however they end.
///
/// Ranks    collective; all ranks throw alike.
/// Errors   Fault::kConfig naming host and pid of the holder; Fault::kStorage when the file cannot be made.
///          A file system without flock is one warning.
class RunLock {
 public:
  RunLock(const std::filesystem::path& run, Group& all);

 private:
  LockFile file_;
};

}  // namespace slipway
