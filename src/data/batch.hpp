// What a model is fed: rows of tokens with their targets, loss weights and boundaries.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace slipway {

/// B sequences of T tokens. All per-token arrays are [B * T], sequence by sequence.
struct Batch {
  int sequences = 0;            ///< B
  int tokens_per_sequence = 0;  ///< T, tokens a sequence
  std::vector<int> ids;         ///< what goes in
  std::vector<int> targets;     ///< what should come next
  std::vector<float> weights;   ///< loss weight of each target, at least 0; 0 masks it
  std::vector<int> positions;   ///< counted from the start of the document (stream packing: of the sequence)
  std::vector<int> key_start;   ///< first position of the same sequence that this token may attend to
  std::vector<std::uint8_t> document_starts;  ///< 1 where a document starts, and recurrent state with it
  std::vector<std::uint64_t> row_ids;         ///< [B] global sequence number: epoch * sequences in an epoch + index

  int size() const { return sequences * tokens_per_sequence; }
  /// Sum of the loss weights, in f64, in order: the only thing that a loss or gradient is divided by, summed over the
  /// micro-batches and ranks that make up a step or a validation set (loss_denominator).
  double weight_sum() const;
  /// How many targets have a loss weight above 0, for reports.
  std::int64_t target_count() const;
};

/// What sums over targets of these loss weights are divided by: `weight_sum`, or 1 where nothing is learned from.
inline double loss_denominator(double weight_sum) { return weight_sum > 0 ? weight_sum : 1; }

/// Makes `batch` one of zeros, to be filled row by row; its memory is reused.
void clear_batch(int sequences, int tokens_per_sequence, Batch& batch);
/// The same with every sequence one document that is learned from, of ids 0: for who measures a step, or counts it.
void synthetic_batch(int sequences, int tokens_per_sequence, Batch& batch);

/// SHA-256 of a batch's ids, targets and loss weights, in hexadecimal: evidence of what a step was fed.
std::string batch_hash(const Batch& batch);

}  // namespace slipway
