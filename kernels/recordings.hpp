// Ops that come again and again with the same arguments: recorded once, then queued all at once.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "kernels/recorder.hpp"
#include "src/core/profile.hpp"

namespace slipway {

/// What was run before, by a key. A backend that records saves the host's work for each op, which takes longer than a
/// small op itself; without one, and while a profile is taken, ops run one by one.
class Recordings {
 public:
  explicit Recordings(const Recorder* recorder) : recorder_(recorder) {}
  ~Recordings() {
    for (const auto& [key, one] : recordings_) drop(one);
  }
  Recordings(const Recordings&) = delete;
  Recordings& operator=(const Recordings&) = delete;

  /// What the ops' arguments depend on that may differ while no memory is taken or given back.
  using Key = std::vector<std::uint64_t>;

  /// Runs `ops`, which ask for the same ops with the same arguments whenever the key is the same, and for nothing else:
  /// neither a copy from or to the host nor a wait. The first time they run one by one and take what memory they need,
  /// the second time they are recorded.
  template <class Ops>
  void run(const Key& key, const Ops& ops) {
    if (recorder_ == nullptr || profile::on()) return ops();
    Recording& one = recordings_[key];
    if (one.handle != nullptr && recorder_->replay(one.handle)) return;
    if (one.seen_at != recorder_->generation()) {
      ops();
      one.seen_at = recorder_->generation();
      return;
    }
    drop(std::exchange(one, {.seen_at = one.seen_at}));
    one.handle = recorded(ops);
    recorder_->replay(one.handle);
  }

 private:
  struct Recording {
    void* handle = nullptr;
    std::uint64_t seen_at = ~std::uint64_t{0};  ///< generation() after the ops had run one by one
  };
  template <class Ops>
  void* recorded(const Ops& ops) {
    recorder_->begin();
    try {
      ops();
    } catch (...) {
      recorder_->cancel();
      throw;
    }
    return recorder_->end();
  }
  void drop(const Recording& one) const noexcept {
    if (one.handle != nullptr) recorder_->drop(one.handle);
  }

  const Recorder* recorder_;
  std::map<Key, Recording> recordings_;
};

}  // namespace slipway
