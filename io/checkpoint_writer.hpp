// One rank's part in saving a checkpoint: a copy of its numbers, and a thread that writes them behind the training.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "io/checkpoint_slice.hpp"
#include "io/manifest.hpp"
#include "io/slice_file.hpp"

namespace slipway {

/// Bytes of the copy that a save of these slices keeps beside the training.
std::uint64_t staging_bytes(std::span<const SliceView> slices);

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

  /// Copies `mine` and returns; the thread writes. The slices of all ranks together cover every tensor exactly once.
  /// Errors   Fault::kNumeric naming the tensor and index of the first NaN or infinity: then nothing was begun.
  /// Cost     one pass over memory by all threads; the copy stays allocated for the next save.
  void begin(const CheckpointInfo& info, std::span<const SliceView> mine);

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
  struct Part {  ///< one stored slice to be
    Slice slice;
    std::size_t start = 0;  ///< of its copy, on a page
    std::string xxh3;       ///< of its copy
  };

  /// Where the copy waits for the disk.
  class Staging {
   public:
    void need(std::size_t count);  ///< room for so many; what it held is lost
    float* data() { return block_.get(); }

   private:
    PageBlock<float> block_;
    std::size_t size_ = 0;
  };

  void stage(std::span<const SliceView> mine);
  void start(Phase during, Phase after, void (CheckpointWriter::*work)());
  /// This rank's file as it was given to the disk: each part's place, and its name inside.
  struct OnDisk {
    std::filesystem::path path;
    std::vector<std::uint64_t> offsets;
    std::vector<std::string> datasets;
  };
  void write_slices();
  OnDisk put_slices();  ///< until they are synced
  void write_receipt(const OnDisk& stored) const;
  void assemble();
  std::filesystem::path partial() const;
  std::uint64_t needed_bytes() const;

  std::filesystem::path checkpoints_;
  int rank_;
  int ranks_;
  CheckpointInfo info_;
  Staging staging_;
  std::vector<Part> parts_;
  std::thread thread_;
  std::atomic<Phase> phase_{Phase::kIdle};
  std::exception_ptr failure_;  ///< written before phase_ becomes kFailed
};

}  // namespace slipway
