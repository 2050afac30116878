// Asynchronous checkpoint saves by all ranks, which agree on success or failure.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "comm/group.hpp"
#include "io/checkpoint/checkpoint_writer.hpp"

namespace slipway {

/// An asynchronous save: the trainer starts it at the end of one step and advances it at the ends of later ones.
///
///   saver.begin(info, slices);                            // training continues
///   saver.snapshot();                                     // before the optimizer updates what the slices view
///   if (const auto step = saver.poll()) ...               // at each later step end: is the checkpoint visible?
///   if (const auto step = saver.drain()) ...              // before the end, or before the next begin()
///
/// Ranks    begin(), poll() and drain() are collective over the group, which is all ranks of the run.
/// Errors   when one rank fails, all ranks throw the same error: the lowest failing rank's fault and message.
///          The save is then abandoned: its .partial folder is removed, and the previous checkpoint remains the newest.
class CheckpointSaver {
 public:
  CheckpointSaver(const std::filesystem::path& checkpoints, Group& group);

  /// Requires that no save is in flight (drain() first). NaN and infinity among the values are reported later, as
  /// Fault::kNumeric.
  void begin(const CheckpointInfo& info, std::span<const SliceView> slices);

  /// Advances the save without waiting for the disk. Returns the step once, when its checkpoint has become visible.
  std::optional<std::int64_t> poll();

  /// Waits until no save is in flight. Returns the step that became visible meanwhile.
  std::optional<std::int64_t> drain();

  /// Call before values given to begin() change: CheckpointWriter::snapshot(). Ranks: local.
  void snapshot() { writer_.snapshot(); }
  std::uint64_t copied_bytes() const { return writer_.copied_bytes(); }

  bool active() const { return active_; }  ///< a save is in flight; equal on all ranks

 private:
  void throw_if_any_failed(int status, const std::string& message);
  Group& group_;
  CheckpointWriter writer_;
  std::int64_t step_ = 0;
  bool active_ = false;
};

}  // namespace slipway
