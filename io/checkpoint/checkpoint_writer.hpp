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

/// Writes the current rank's file in the background; rank 0 also publishes the checkpoint. It does not communicate:
/// CheckpointSaver makes the ranks agree. Phases: begin() -> kWriting -> kWritten -> (rank 0: publish() -> kPublishing
/// -> kPublished) -> finish() -> kIdle.
///
/// Ranks    local; no MPI calls. Only the background threads use HDF5 and the disk.
/// Errors   an error in the background sets the phase kFailed, and wait() throws it.
class CheckpointWriter {
 public:
  enum class Phase : int { kIdle, kWriting, kWritten, kPublishing, kPublished, kFailed };

  /// `checkpoints` is the run's folder of checkpoints, visible to every rank; created when missing.
  CheckpointWriter(std::filesystem::path checkpoints, int rank, int ranks);
  ~CheckpointWriter();  ///< waits, then abandons an unpublished save
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Returns at once; background threads write. The slices of all ranks together cover every tensor exactly once, and
  /// their elements may not change before snapshot() has returned or the save has ended.
  /// Errors   in the background: Fault::kNumeric naming tensor and index of a NaN or infinity, Fault::kStorage.
  /// Cost     one pass over memory, through a block of a few MiB per thread.
  void begin(const CheckpointInfo& info, std::span<const SliceView> local_slices);

  /// Call before changing elements that begin() was given: CopyOnWriteSlices::snapshot(). No-op without a save.
  void snapshot() { slices_.snapshot(); }
  std::uint64_t copied_bytes() const { return slices_.copied_bytes(); }  ///< by snapshot(), in the current save

  Phase phase() const { return phase_.load(std::memory_order_acquire); }

  /// Rank 0, once every rank is kWritten: in the background, writes index and manifest, syncs them, reads the manifest
  /// back and renames the folder.
  void publish();

  /// Ends the save on the current rank: rank 0 calls it once kPublished, the others once rank 0 is.
  void finish();

  /// Waits until the background work of the phase has ended. Errors: throws its error.
  void wait();

  /// Abandons the save, in any phase: waits, removes this rank's file if it failed, and on rank 0 the folder.
  void abandon() noexcept;

  const std::filesystem::path& checkpoints() const { return checkpoints_; }

 private:
  /// Runs `work` on thread_; the phase is `running_phase` meanwhile, then `completed_phase` or kFailed.
  void start_thread(Phase running_phase, Phase completed_phase, void (CheckpointWriter::*work)());
  /// This rank's file as it was written; the vectors have one entry per stored slice.
  struct RankFile {
    std::filesystem::path path;
    std::vector<std::uint64_t> offsets;  ///< bytes from the start of the file
    std::vector<std::string> datasets;
    std::vector<std::string> xxh3;  ///< of the bytes in memory
  };
  void write_slices();
  RankFile write_rank_file();  ///< returns once the file is synced
  void write_leased_slices(SliceFile& file, RankFile& rank_file);
  void write_receipt(const RankFile& rank_file) const;
  void assemble_checkpoint();
  std::filesystem::path partial_folder() const;
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
