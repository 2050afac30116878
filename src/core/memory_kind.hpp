// What memory holds, by kind, and how many bytes of each kind are in use.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>

namespace slipway {

/// What an allocation is for, as a plan reports it.
enum class MemoryKind {
  kWeights,            ///< in f32, or in blocks of q8_0
  kComputeCopy,        ///< of the weights, in bf16
  kGradients,          ///< the buffer that backward passes add to
  kSlotPartials,       ///< partial gradients of slots
  kOptimizerState,     ///< moments
  kOrthogonalization,  ///< what Muon gathers a matrix in, and orthogonalizes it in
  kActivations,        ///< saved or recomputed, their gradients, and the scratch memory of layers
  kLogits,             ///< one chunk of them, or those of the next token
  kBatch,              ///< ids, targets and weights of a micro-batch, in the memory of the ops
  kKvCache,            ///< keys and values of tokens that a sample has seen
  kMessages,           ///< what peers send
  kWorkspace,          ///< what ops use beside their operands
  kOther,              ///< allocations without a tag
};
inline constexpr std::size_t kMemoryKinds = static_cast<std::size_t>(MemoryKind::kOther) + 1;

struct BytesByKind {
  std::array<std::uint64_t, kMemoryKinds> bytes{};

  std::uint64_t& operator[](MemoryKind kind) { return bytes[static_cast<std::size_t>(kind)]; }
  std::uint64_t operator[](MemoryKind kind) const { return bytes[static_cast<std::size_t>(kind)]; }
  std::uint64_t total() const { return std::accumulate(bytes.begin(), bytes.end(), std::uint64_t{0}); }
};

/// Counts allocations as they come and go.
class MemoryUse {
 public:
  void allocate(MemoryKind kind, std::uint64_t bytes) {
    now_[kind] += bytes, total_ += bytes;
    if (total_ <= peak_) return;
    peak_ = total_, at_peak_ = now_;
  }
  void deallocate(MemoryKind kind, std::uint64_t bytes) { now_[kind] -= bytes, total_ -= bytes; }
  void reset_peak() { peak_ = total_, at_peak_ = now_; }

  /// What was in use when that was most since reset_peak().
  const BytesByKind& at_peak() const { return at_peak_; }

 private:
  BytesByKind now_, at_peak_;
  std::uint64_t total_ = 0, peak_ = 0;
};

}  // namespace slipway
