// Loading from a checkpoint: any rectangle of any tensor, whatever layout wrote it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_slice.hpp"
#include "io/checkpoint/manifest.hpp"

namespace slipway {

/// The hint in an error about a damaged checkpoint.
enum class RecoveryHint {
  kSuggestValid,  ///< verify the run's other checkpoints and suggest the newest valid one
  kNone,
};

/// The files of a checkpoint that one of several verifying ranks reads: every `count`-th, from `index` on.
struct VerifyShard {
  int index = 0, count = 1;
};

/// A rectangle and the destination of its elements, rows `stride` elements apart.
struct ReadRequest {
  Slice slice;
  float* out = nullptr;
  std::int64_t stride = 0;
};

/// One checkpoint, opened. Opening reads the manifest and checks its hash; reading a rectangle checks the hash of each
/// stored slice that it touches, once.
///
/// Ranks    local; each rank opens its own reader and reads what it needs. Not thread-safe.
/// Errors   Fault::kStorage naming the file, the tensor and a hint.
class CheckpointReader {
 public:
  explicit CheckpointReader(const std::filesystem::path& folder, RecoveryHint hint = RecoveryHint::kSuggestValid);
  ~CheckpointReader();
  CheckpointReader(CheckpointReader&&) noexcept;

  const std::filesystem::path& folder() const;
  const Manifest& manifest() const;
  const CheckpointInfo& info() const { return manifest().info; }
  std::span<const StoredTensor> tensors() const { return manifest().tensors; }

  /// The tensor of that name and kind; nullptr when there is none.
  const StoredTensor* find(const std::string& name, const std::string& kind = "value") const;

  /// Fills `out` (rows `stride` elements apart) with the elements of `slice`.
  /// Errors   also Fault::kStorage when the tensor is missing or has another shape than `slice.shape`.
  void read(const Slice& slice, float* out, std::int64_t stride);

  /// Fills many rectangles, on all threads. Errors: those of read(); of several, the first in the order of `requests`.
  void read_all(std::span<const ReadRequest> requests);

  /// Opens the files that hold a tensor. A manifest may claim more bytes than the files have: that is detected here,
  /// before memory is allocated for the tensor.
  void open_files(const StoredTensor& tensor);

  /// The whole tensor, row-major.
  std::vector<float> read_tensor(const std::string& name, const std::string& kind = "value");

  /// Passes the whole tensor to `sink(elements)`, row-major, in chunks of bounded size.
  void stream(const StoredTensor& tensor, const std::function<void(std::span<const float>)>& sink);

  /// Reads every file and checks its hash; fails on missing and on unlisted files. With a `shard`, the files are
  /// divided among ranks.
  void verify_all(VerifyShard shard = {});

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// ProvenanceHash (io/checkpoint/provenance.hpp) of the "value" tensors. `progress(done, total)` counts tensors.
std::string provenance_sha256(CheckpointReader& reader,
                              const std::function<void(double done, double total)>& progress = {});

}  // namespace slipway
