// Names what memory is allocated for: its kind in a plan, and the words of the message when there is none.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "src/core/error.hpp"
#include "src/core/memory_kind.hpp"

namespace slipway {

/// While one is in scope, this thread's allocations are of `kind` and for `what`, as "the gradients", or "the logits of
/// 512 tokens"; the innermost tag counts. Allocates nothing itself; the words must outlive it.
class AllocationTag {
 public:
  AllocationTag(MemoryKind kind, const char* what, std::int64_t count = -1, const char* unit = "")
      : outer_(std::exchange(innermost(), this)), kind_(kind), what_(what), count_(count), unit_(unit) {}
  ~AllocationTag() { innermost() = outer_; }
  AllocationTag(const AllocationTag&) = delete;
  AllocationTag& operator=(const AllocationTag&) = delete;

  static MemoryKind kind() { return innermost() == nullptr ? MemoryKind::kOther : innermost()->kind_; }
  static std::string current() {
    const AllocationTag* tag = innermost();
    if (tag == nullptr) return "a buffer";
    return tag->count_ < 0 ? tag->what_ : join(tag->what_, " ", tag->count_, " ", tag->unit_);
  }

 private:
  static AllocationTag*& innermost() {
    static thread_local AllocationTag* tag = nullptr;
    return tag;
  }
  AllocationTag* outer_;
  MemoryKind kind_;
  const char* what_;
  std::int64_t count_;
  const char* unit_;
};

}  // namespace slipway
