// What memory is taken for, in the words of the message when there is none.
#pragma once

#include <string>
#include <utility>

namespace slipway {

/// Memory that this thread takes while one lives is for `what`: "the gradients". The innermost one counts.
class TakenFor {
 public:
  explicit TakenFor(std::string what) : outer_(std::exchange(innermost(), this)), what_(std::move(what)) {}
  ~TakenFor() { innermost() = outer_; }
  TakenFor(const TakenFor&) = delete;
  TakenFor& operator=(const TakenFor&) = delete;

  static std::string now() { return innermost() == nullptr ? "a buffer" : innermost()->what_; }

 private:
  static TakenFor*& innermost() {
    static thread_local TakenFor* one = nullptr;
    return one;
  }
  TakenFor* outer_;
  std::string what_;
};

}  // namespace slipway
