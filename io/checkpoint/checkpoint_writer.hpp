// One rank's part of an asynchronous checkpoint save: background threads that write its slices.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "io/checkpoint/checkpoint_slice.hpp"
#include "io/checkpoint/copy_on_write_slices.hpp"
#include "io/checkpoint/manifest.hpp"

namespace slipway {

/// Writes this rank's file in the background; rank 0 also publishes the whole. Knows no other rank: CheckpointSaver
/// makes ranks agree. Phases: begin() -> kWriting -> kWritten -> (rank 0: publish() -> kPublishing -> kPublished) ->
/// finish() -> kIdle.
///
/// Ranks    local. HDF5 and the disk are touched by the background thread alone, MPI by neither.
/// Errors   what goes wrong in the background becomes kFailed, and wait() throws it.
class CheckpointWriter {
 public:
  enum class Phase : int { kIdle, kWriting, kWritten, kPublishing, kPublished, kFailed };

  /// `checkpoints` is the run's folder of checkpoints, seen by every rank; made when missing.
  CheckpointWriter(std::filesystem::path checkpoints, int rank, int ranks);
  ~CheckpointWriter();  ///< waits, then abandons what is not published
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Returns at once; threads write. The slices of all ranks together cover every tensor exactly once, and their
  /// numbers may not change before snapshot() has returned or the save is over.
  /// Errors   in the background: Fault::kNumeric naming tensor and index of a NaN or infinity, Fault::kStorage.
  /// Cost     one pass over memory, through a block of a few MiB a thread.
  void begin(const CheckpointInfo& info, std::span<const SliceView> mine);

  /// To be called before numbers change that begin() was given: CopyOnWriteSlices::snapshot(). Nothing to do without a
  /// save.
  void snapshot() { slices_.snapshot(); }
  std::uint64_t copied_bytes() const { return slices_.copied_bytes(); }  ///< of this save, since the disk was too slow

  Phase phase() const { return phase_.load(std::memory_order_acquire); }

  /// Rank 0, once every rank is kWritten: index, manifest, durable, read back, renamed; in the background.
  void publish();

  /// The save is over for this rank: rank 0 once kPublished, the others once rank 0 is.
  void finish();

  /// Waits for the background to reach the end of its phase. Errors: throws what failed there.
  void wait();

  /// Gives the save up, from any phase: waits, removes this rank's file if it failed, and on rank 0 the folder.
  void abandon() noexcept;

  const std::filesystem::path& checkpoints() const { return checkpoints_; }

 private:
  void start(Phase during, Phase after, void (CheckpointWriter::*work)());
  /// This rank's file as it was given to the disk: each part's place, and its name inside.
  struct OnDisk {
    std::filesystem::path path;
    std::vector<std::uint64_t> offsets;
    std::vector<std::string> datasets;
    std::vector<std::string> xxh3;  ///< of what was meant to be written
  };
  void write_slices();
  OnDisk put_slices();  ///< until they are synced
  void put_taken(SliceFile& file, OnDisk& stored);
  void write_receipt(const OnDisk& stored) const;
  void assemble();
  std::filesystem::path partial() const;
  std::uint64_t needed_bytes() const;

  std::filesystem::path checkpoints_;
  int rank_;
  int ranks_;
  CheckpointInfo info_;
  CopyOnWriteSlices slices_;
  std::thread thread_;
  std::atomic<Phase> phase_{Phase::kIdle};
  std::exception_ptr failure_;  ///< written before phase_ becomes kFailed
};

}  // namespace slipway
