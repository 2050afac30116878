// Names the purpose of allocations for out-of-memory messages.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "src/core/error.hpp"

namespace slipway {

/// While a tag is in scope, an out-of-memory message of this thread says that the memory is for `what`, such as "the
/// gradients" or "the logits of 512 tokens"; the innermost tag wins. Allocates nothing; the strings must outlive it.
class AllocationTag {
 public:
  explicit AllocationTag(const char* what, std::int64_t count = -1, const char* of = "")
      : outer_(std::exchange(innermost(), this)), what_(what), count_(count), of_(of) {}
  ~AllocationTag() { innermost() = outer_; }
  AllocationTag(const AllocationTag&) = delete;
  AllocationTag& operator=(const AllocationTag&) = delete;

  static std::string now() {
    const AllocationTag* one = innermost();
    if (one == nullptr) return "a buffer";
    return one->count_ < 0 ? one->what_ : join(one->what_, " ", one->count_, " ", one->of_);
  }

 private:
  static AllocationTag*& innermost() {
    static thread_local AllocationTag* one = nullptr;
    return one;
  }
  AllocationTag* outer_;
  const char* what_;
  std::int64_t count_;
  const char* of_;
};

}  // namespace slipway
