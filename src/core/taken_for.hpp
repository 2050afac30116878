// What memory is taken for, in the words of the message when there is none.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "src/core/error.hpp"

namespace slipway {

/// Memory that this thread takes while one lives is for `what`, as "the gradients", or "the logits of 512 tokens". The
/// innermost one counts. Takes no memory itself; the words must outlive it.
class TakenFor {
 public:
  explicit TakenFor(const char* what, std::int64_t count = -1, const char* of = "")
      : outer_(std::exchange(innermost(), this)), what_(what), count_(count), of_(of) {}
  ~TakenFor() { innermost() = outer_; }
  TakenFor(const TakenFor&) = delete;
  TakenFor& operator=(const TakenFor&) = delete;

  static std::string now() {
    const TakenFor* one = innermost();
    if (one == nullptr) return "a buffer";
    return one->count_ < 0 ? one->what_ : join(one->what_, " ", one->count_, " ", one->of_);
  }

 private:
  static TakenFor*& innermost() {
    static thread_local TakenFor* one = nullptr;
    return one;
  }
  TakenFor* outer_;
  const char* what_;
  std::int64_t count_;
  const char* of_;
};

}  // namespace slipway
