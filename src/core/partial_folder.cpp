#include "src/core/partial_folder.hpp"

#include <cerrno>
#include <system_error>

#include "src/core/error.hpp"
#include "src/core/file.hpp"
#include "src/core/log.hpp"

namespace slipway {
namespace {

namespace fs = std::filesystem;

/// Without slashes at its end, so that ".partial" can follow.
fs::path strip_trailing_slash(const fs::path& path) {
  std::string text = path.string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

[[noreturn]] void fail(const char* verb, const fs::path& path, const std::string& reason) {
  throw Error(Fault::kStorage, join("cannot ", verb, " ", path.string(), ": ", reason));
}

}  // namespace

PartialFolder::PartialFolder(const fs::path& target)
    : target_(strip_trailing_slash(target)), path_(target_.string() + ".partial") {
  constexpr int kTries = 100;  // each loses a race against a process that ends in this moment
  for (int i = 0; i < kTries; ++i)
    if (try_create()) return;
  fail("make", path_, "other processes make and remove it again and again");
}

/// What lies in the way may be removed when it is empty or carries the mark.
void PartialFolder::check_owned() const {
  const auto throw_blocked = [&](const std::string& what) {
    throw Error(Fault::kConfig, join(path_.string(), " is in the way: ", what,
                                     ", so it is not removed; move it elsewhere, or name another --out"));
  };
  if (fs::is_symlink(path_) || !fs::is_directory(path_)) throw_blocked("it is no folder that slipway left");
  if (fs::exists(path_ / kPartialMarker)) return;
  const fs::directory_iterator entry(path_);
  if (entry != fs::directory_iterator())
    throw_blocked(join("it holds ", entry->path().filename().string(), ", which slipway did not leave there"));
}

/// False: another process removed the folder meanwhile.
bool PartialFolder::try_create() {
  try {
    if (fs::exists(fs::symlink_status(path_))) check_owned();
    else fs::create_directories(path_);
    const fs::path marker = path_ / kPartialMarker;
    lock_ = LockFile(marker);
    switch (lock_.state()) {
      case LockFile::State::kHeld:
      case LockFile::State::kNoFlock:
        if (!lock_.is_same_file(marker)) return false;
        break;
      case LockFile::State::kHeldByAnother:
        throw Error(Fault::kConfig, join(target_.string(), " is being written by ", lock_.detail(), " (it holds ",
                                         marker.string(), "): wait for it, or name another --out"));
      case LockFile::State::kCannotOpen:
        if (!fs::exists(path_)) return false;
        fail("create", marker, lock_.detail());
    }
    if (lock_.state() == LockFile::State::kNoFlock)
      log::warn(join("the file system of ", path_.string(), " has no locks (", lock_.detail(),
                     "): make sure that no second process writes ", target_.string()));
    bool removed = false;
    for (const fs::directory_entry& entry : fs::directory_iterator(path_))
      if (entry.path().filename() != kPartialMarker) removed = fs::remove_all(entry.path()) > 0 || removed;
    if (removed) log::info(join("removed what an interrupted process had left in ", path_.string()));
    return true;
  } catch (const fs::filesystem_error& error) {
    if (error.code() == std::errc::no_such_file_or_directory) return false;
    fail("make", path_, error.code().message());
  }
}

PartialFolder::~PartialFolder() {
  std::error_code ignored;  // the first failure is the one to report; after publish() nothing is there
  if (lock_.is_same_file(path_ / kPartialMarker)) fs::remove_all(path_, ignored);
}

void PartialFolder::publish() {
  sync_path(path_);
  std::error_code reason;
  fs::rename(path_, target_, reason);  // replaces an empty folder, and only an empty one
  if (reason == std::errc::directory_not_empty || reason == std::errc::file_exists)
    throw Error(Fault::kConfig, join(target_.string(), " was filled by another process meanwhile; name another --out"));
  if (reason) fail("rename to", target_, reason.message());
  fs::remove(target_ / kPartialMarker, reason);
  if (reason) fail("remove", target_ / kPartialMarker, reason.message());
  sync_path(target_);
  sync_path(fs::absolute(target_).parent_path());
}

}  // namespace slipway
