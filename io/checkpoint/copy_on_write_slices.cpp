#include "io/checkpoint/copy_on_write_slices.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "src/core/log.hpp"

namespace slipway {
namespace {

/// Copies the elements of a view to `destination`, rows contiguous.
void copy_rows(const SliceView& view, float* destination) {
  const auto cols = static_cast<std::size_t>(view.extent[1]);
  for (std::int64_t row = 0; row < view.extent[0]; ++row)
    std::memcpy(destination + row * view.extent[1], view.data + row * view.stride, cols * sizeof(float));
}

}  // namespace

CopyOnWriteSlices::Lease::~Lease() {
  if (!live_) return;
  const std::lock_guard lock(owner_->mutex_);
  if (--owner_->live_leases_ == 0) owner_->no_leases_.notify_all();
}

void CopyOnWriteSlices::assign(std::vector<SliceView> slices) {
  const std::lock_guard lock(mutex_);
  require(live_leases_ == 0, "CopyOnWriteSlices::assign while a slice is being written");
  slices_ = std::move(slices);
  next_ = 0;
  first_copied_ = slices_.size();
  copied_bytes_ = 0;
}

std::optional<CopyOnWriteSlices::Lease> CopyOnWriteSlices::lease_next() {
  const std::lock_guard lock(mutex_);
  if (next_ >= slices_.size()) return std::nullopt;
  const std::size_t index = next_++;
  SliceView view = slices_[index];
  const bool live = index < first_copied_;
  if (live) {
    ++live_leases_;
  } else {
    view.data = copies_[index - first_copied_];
    view.stride = view.extent[1];
  }
  return std::optional<Lease>(std::in_place, *this, index, std::move(view), live);
}

void CopyOnWriteSlices::stop() {
  const std::lock_guard lock(mutex_);
  next_ = slices_.size();
  no_leases_.notify_all();
}

void CopyOnWriteSlices::snapshot() {
  std::unique_lock lock(mutex_);
  const bool copied = next_ >= first_copied_ || copy_unleased();
  no_leases_.wait(lock, [&] { return live_leases_ == 0 && (copied || next_ >= slices_.size()); });
}

/// Copies the slices that are not leased yet. Returns false if there is no memory for the copy.
bool CopyOnWriteSlices::copy_unleased() {
  std::size_t elements = 0;
  for (std::size_t i = next_; i < slices_.size(); ++i) elements += static_cast<std::size_t>(slices_[i].size());
  if (copy_capacity_ < elements) {
    copy_buffer_.reset();  // before the larger one is allocated
    copy_buffer_ = allocate_page_aligned<float>(elements);
    copy_capacity_ = copy_buffer_ == nullptr ? 0 : elements;
  }
  if (copy_buffer_ == nullptr) {
    log::warn(join("no memory (", elements * sizeof(float),
                   " bytes) for a copy of what a checkpoint has still to write: the step waits for the disk"));
    return false;
  }
  copies_.clear();
  float* destination = copy_buffer_.get();
  for (std::size_t i = next_; i < slices_.size(); ++i) {
    copies_.push_back(destination);
    destination += slices_[i].size();
  }
#pragma omp parallel for schedule(dynamic)
  for (std::size_t i = 0; i < copies_.size(); ++i) copy_rows(slices_[next_ + i], copies_[i]);
  first_copied_ = next_;
  copied_bytes_ = elements * sizeof(float);
  return true;
}

}  // namespace slipway
