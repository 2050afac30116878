// The source of an asynchronous save: slices of the live weights and moments, copied only if they are about to change.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "io/checkpoint/checkpoint_slice.hpp"
#include "io/checkpoint/slice_file.hpp"

namespace slipway {

/// Copy on write. Weights and moments do not change between two optimizer steps, which is most of the time, so the
/// writer threads read them in place, slice by slice; before the optimizer updates them, the slices that no thread has
/// leased yet are copied. No copy is made if the disk is as fast as the forward and backward passes.
///
///   slices.assign(views);                                            // training thread
///   while (const auto lease = slices.lease_next()) write(lease->view());   // writer threads
///   slices.snapshot();                                               // training thread
class CopyOnWriteSlices {
 public:
  /// One slice, whose elements do not change until the lease goes out of scope.
  class Lease {
   public:
    Lease(CopyOnWriteSlices& owner, std::size_t index, SliceView view, bool live)
        : owner_(&owner), index_(index), view_(std::move(view)), live_(live) {}
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    std::size_t index() const { return index_; }  ///< in the order of assign()
    const SliceView& view() const { return view_; }

   private:
    CopyOnWriteSlices* owner_;
    std::size_t index_;
    SliceView view_;  // of the live memory, or of the copy
    bool live_;
  };

  /// Sets the slices to write. Not while any slice is leased.
  void assign(std::vector<SliceView> slices);
  /// The slices given to assign(). Any thread.
  std::span<const SliceView> all() const { return slices_; }

  /// Leases the next slice; nullopt when none is left. Any thread.
  std::optional<Lease> lease_next();
  /// Ends leasing after a failed write: lease_next() returns nullopt from now on.
  void stop();

  /// After this returns, the memory given to assign() may change: copies the slices that are not leased yet, on all
  /// threads, and waits for those that are leased. Without memory for the copy, warns and waits for all slices.
  void snapshot();

  std::uint64_t copied_bytes() const { return copied_bytes_; }  ///< by snapshot(), since assign()

 private:
  bool copy_unleased();

  std::mutex mutex_;
  std::condition_variable no_leases_;  // signaled when no slice of live memory is leased, and by stop()
  std::vector<SliceView> slices_;      // as they were assigned
  std::vector<float*> copies_;         // of the slices from first_copied_ on, in copy_
  std::size_t first_copied_ = 0;       // index into slices_; slices_.size(): nothing is copied
  std::size_t next_ = 0;               // index into slices_ of the slice to lease next
  int live_leases_ = 0;
  PageAlignedPtr<float> copy_buffer_;  // kept for the next save
  std::size_t copy_capacity_ = 0;      // in elements
  std::uint64_t copied_bytes_ = 0;
};

}  // namespace slipway
