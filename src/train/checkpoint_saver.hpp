// Saving with all ranks: the writer of each, and their agreement.
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
///   saver.begin(info, slices);                            // and goes on training
///   saver.snapshot();                                // before the optimizer moves what the slices show
///   if (const auto step = saver.poll()) ...               // at each later step end: has it become visible?
///   if (const auto step = saver.drain()) ...              // before the end, or before the next begin
///
/// Ranks    begin(), poll() and drain() are collective over the group, which is all ranks of the run.
/// Errors   whatever one rank meets, all ranks throw, alike: the lowest failing rank's fault and sentence.
///          The save is then given up: its .partial folder is gone, the previous checkpoint stays in force.
class CheckpointSaver {
 public:
  CheckpointSaver(const std::filesystem::path& checkpoints, Group& group);

  /// Needs no save in flight (drain() first). NaN and infinity among the numbers show later, as Fault::kNumeric.
  void begin(const CheckpointInfo& info, std::span<const SliceView> mine);

  /// Moves the save on without waiting for the disk. Returns the step once, when its checkpoint has become visible.
  std::optional<std::int64_t> poll();

  /// Waits until no save is in flight. Returns the step that became visible meanwhile.
  std::optional<std::int64_t> drain();

  /// To be called before numbers given to begin() change, on each rank for itself: CheckpointWriter::snapshot().
  void snapshot() { writer_.snapshot(); }
  std::uint64_t copied_bytes() const { return writer_.copied_bytes(); }

  bool active() const { return active_; }  ///< a save is in flight; equal on all ranks

 private:
  void agree(int status, const std::string& message);
  Group& group_;
  CheckpointWriter writer_;
  std::int64_t step_ = 0;
  bool active_ = false;
};

}  // namespace slipway
