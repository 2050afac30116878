#include "src/core/lock_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <sstream>
#include <utility>

#include "src/core/clock.hpp"
#include "src/core/error.hpp"
#include "src/core/log.hpp"

namespace slipway {
namespace {

std::string read_holder(int descriptor) {
  std::array<char, 512> text{};
  if (::pread(descriptor, text.data(), text.size() - 1, 0) <= 0) return "another process";
  std::istringstream fields(text.data());
  std::string host, pid, since;
  fields >> host >> pid >> since;
  return join("process ", pid, " on host ", host, " since ", since);
}

void write_holder(int descriptor) {
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  const std::string text = join(host.data(), " ", ::getpid(), " ", utc_now(), "\n");
  if (::ftruncate(descriptor, 0) != 0 || ::pwrite(descriptor, text.data(), text.size(), 0) < 0)
    log::warn(join("cannot write who holds the lock: ", errno_message()));
}

}  // namespace

LockFile::LockFile(const std::filesystem::path& path)
    : descriptor_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644)) {
  if (descriptor_ < 0) {
    detail_ = errno_message();
  } else if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) {
    write_holder(descriptor_);
    state_ = State::kHeld;
  } else {
    set_failure();
  }
}

LockFile::~LockFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

LockFile::LockFile(LockFile&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      state_(std::exchange(other.state_, State::kCannotOpen)),
      detail_(std::move(other.detail_)) {}

LockFile& LockFile::operator=(LockFile&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(state_, other.state_);
  std::swap(detail_, other.detail_);
  return *this;
}

LockFile LockFile::lock_shared(const std::filesystem::path& path) {
  LockFile lock;
  lock.descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (lock.descriptor_ >= 0 && ::flock(lock.descriptor_, LOCK_SH | LOCK_NB) == 0) lock.state_ = State::kHeld;
  return lock;
}

void LockFile::share() {
  if (state_ == State::kHeld && ::flock(descriptor_, LOCK_SH | LOCK_NB) != 0) set_failure();
}

void LockFile::set_failure() {
  state_ = errno == EWOULDBLOCK ? State::kHeldByAnother : State::kNoFlock;
  detail_ = state_ == State::kHeldByAnother ? read_holder(descriptor_) : errno_message();
}

bool LockFile::is_same_file(const std::filesystem::path& path) const {
  struct stat held_stat {
  }, path_stat{};
  return descriptor_ >= 0 && ::fstat(descriptor_, &held_stat) == 0 && ::stat(path.c_str(), &path_stat) == 0 &&
         held_stat.st_dev == path_stat.st_dev && held_stat.st_ino == path_stat.st_ino;
}

}  // namespace slipway
