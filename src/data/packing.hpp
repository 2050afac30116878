// Packing: a run of tokens becomes one row of a batch, with targets, weights and the reach of attention.
#pragma once

#include <string>
#include <vector>

#include "src/data/batch.hpp"

namespace slipway {

/// What a sequence is cut from.
enum class Packing {
  kDocuments,  ///< attention and targets stay inside each document
  kStream,     ///< one stream of tokens; attention and targets run across documents
};
Packing packing_of(const std::string& name);  ///< Errors: Fault::kConfig, listing both

/// The tokens of one sequence and the one after its last, and where documents begin among them.
struct TokenSpan {
  std::vector<int> tokens;  ///< T + 1 of them; fewer at the end of an epoch
  std::vector<int> starts;  ///< positions in `tokens` at which a document begins, ascending
};

/// Makes `batch` one of zeros, to be filled row by row; its memory is used again.
void clear_batch(int sequences, int tokens, Batch& batch);
/// The same with every sequence one document that is learned from, of ids 0: for who measures a step, or counts it.
void synthetic_batch(int sequences, int tokens, Batch& batch);

/// Fills row `row` of `batch`. A part of a document that the sequence before has begun stands at the start of this one
/// as a segment of its own: positions count from 0 there too, and `resets` stays 0, as no document begins.
/// Where the run ends early the row is filled up with id 0, weight 0, in a segment of its own.
void pack(const TokenSpan& run, Packing packing, int row, Batch& batch);

/// SHA-256 of a batch's ids, targets and weights: evidence of what a step was fed.
std::string batch_hash(const Batch& batch);

}  // namespace slipway
