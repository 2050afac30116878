#include "launch/run_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <sstream>
#include <string>

#include "src/core/clock.hpp"
#include "src/core/error.hpp"
#include "src/core/log.hpp"

namespace slipway {
namespace {

/// What rank 0 finds, and tells all.
struct Outcome {
  enum Kind : int { kHeldByUs, kHeldByAnother, kNoFlock, kCannotOpen } kind = kHeldByUs;
  std::array<char, 512> detail{};

  void say(const std::string& text) { text.copy(detail.data(), detail.size() - 1); }
};

std::string holder_of(int descriptor) {
  std::array<char, 512> text{};
  if (pread(descriptor, text.data(), text.size() - 1, 0) <= 0) return "another process";
  std::istringstream words(text.data());
  std::string host, pid, since;
  words >> host >> pid >> since;
  return join("process ", pid, " on host ", host, " since ", since);
}

void sign(int descriptor) {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  const std::string text = join(host.data(), " ", getpid(), " ", utc_now(), "\n");
  if (ftruncate(descriptor, 0) != 0 || pwrite(descriptor, text.data(), text.size(), 0) < 0)
    log::warn(join("cannot write who holds the run's lock: ", system_reason()));
}

/// Alone first, then shared. The change is not atomic: a rival may slip in between, and then has it.
Outcome take(int descriptor) {
  Outcome outcome;
  if (flock(descriptor, LOCK_EX | LOCK_NB) == 0) {
    sign(descriptor);
    if (flock(descriptor, LOCK_SH | LOCK_NB) == 0) return outcome;
  }
  outcome.kind = errno == EWOULDBLOCK ? Outcome::kHeldByAnother : Outcome::kNoFlock;
  outcome.say(outcome.kind == Outcome::kHeldByAnother ? holder_of(descriptor) : system_reason());
  return outcome;
}

}  // namespace

RunLock::RunLock(const std::filesystem::path& run, Group& all) {
  const std::filesystem::path path = run / "lock";
  Outcome outcome;
  if (all.rank() == 0) {
    descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (descriptor_ < 0) {
      outcome.kind = Outcome::kCannotOpen;
      outcome.say(system_reason());
    } else {
      outcome = take(descriptor_);
    }
  }
  all.broadcast(&outcome, sizeof outcome, 0);

  if (outcome.kind == Outcome::kHeldByUs) {
    if (all.rank() != 0)
      descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);  // a host without the folder has nothing to hold
    if (all.rank() != 0 && descriptor_ >= 0) flock(descriptor_, LOCK_SH | LOCK_NB);
    all.barrier();  // from here on the lock outlives rank 0
    return;
  }
  if (outcome.kind == Outcome::kNoFlock) {
    if (all.rank() == 0)
      log::warn(join("the file system of ", path.string(), " has no locks (", outcome.detail.data(),
                     "): make sure that no second run uses this folder"));
    return;
  }
  if (descriptor_ >= 0) ::close(descriptor_);
  if (outcome.kind == Outcome::kCannotOpen)
    throw Error(Fault::kStorage, join("cannot open ", path.string(), ": ", outcome.detail.data()));
  throw Error(Fault::kConfig, join(run.string(), " is in use by ", outcome.detail.data(), " (it holds ", path.string(),
                                   "): wait for it, stop it, or choose another --run"));
}

RunLock::~RunLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace slipway
