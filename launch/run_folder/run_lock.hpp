// A lock that allows one run in a folder at a time.
#pragma once

#include <filesystem>

#include "comm/group.hpp"
#include "src/core/lock_file.hpp"

namespace slipway {

/// Holds RUN/lock from construction to the end of the last rank: rank 0 locks it exclusively, then every rank that sees
/// the file holds a shared lock, so that it is released when the last of them ends, for whatever reason.
///
/// Ranks    collective; all ranks throw the same error.
/// Errors   Fault::kConfig naming host and pid of the holder; Fault::kStorage when the file cannot be created.
///          A file system without flock only causes a warning.
class RunLock {
 public:
  RunLock(const std::filesystem::path& run_folder, Group& world_group);

 private:
  LockFile file_;
};

}  // namespace slipway
