// Atomic creation of a folder: filled as NAME.partial, then renamed.
#pragma once

#include <filesystem>
#include <string>

#include "src/core/lock_file.hpp"

namespace slipway {

/// The file that marks a NAME.partial as Slipway's while it is filled; the process that fills it holds it locked.
inline constexpr char kPartialMarker[] = ".slipway-partial";

/// Fills NAME.partial and publishes it as NAME. A folder that an interrupted process left is removed, but only if it
/// has the mark; the destructor removes an unpublished folder.
///
/// Errors   Fault::kConfig when NAME.partial holds what slipway did not write, or when another process fills it (naming
///          host and pid), and in publish() when NAME holds something by then; Fault::kStorage when the disk refuses.
class PartialFolder {
 public:
  explicit PartialFolder(const std::filesystem::path& target);  ///< `target` as --out names it
  ~PartialFolder();
  PartialFolder(const PartialFolder&) = delete;
  PartialFolder& operator=(const PartialFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  void publish();

 private:
  void check_owned() const;
  bool try_create();

  std::filesystem::path target_;
  std::filesystem::path path_;
  LockFile lock_;
};

}  // namespace slipway
