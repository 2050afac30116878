// An inference session: the decoding state of sequences, and the logits after their last tokens.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "src/model/model.hpp"

namespace slipway {

/// The decoding state of B sequences of equal length.
///
/// Axes: B sequences, T tokens, V vocabulary. One model may serve several sessions, one call at a time.
class Session {
 public:
  /// Holds at most `capacity` tokens a sequence. The model must outlive it.
  Session(Model& model, int sequences, int capacity);

  /// Feeds T more tokens of every sequence, in chunks, so that workspace does not grow with T.
  /// Shapes   ids [B * T], sequence by sequence.
  void decode(std::span<const int> ids_BT);

  /// The logits after the last token of every sequence, in the backend's memory. Shapes: [B, V].
  Matrix<const float> device_logits() const;
  /// The logits after the last token of one sequence, on the host, valid until the next decode(). Shapes: [V].
  /// Cost     where the backend's memory is not the host's, waits for decode() and copies V numbers.
  std::span<const float> logits(int sequence = 0);

  int sequences() const { return state_.sequences(); }
  int length() const { return state_.length(); }  ///< tokens in the state, per sequence
  int remaining_capacity() const { return state_.capacity() - state_.length(); }
  void rewind(int length) { state_.rewind(length); }  ///< logits() is valid again after the next decode()
  Session fork() const;                               ///< an independent copy that continues from here

  /// Serializes the state and logits(): another session of a model with the same spec and weights continues from it
  /// bit for bit.
  /// Ranks    local: every tensor rank saves and restores its own state.
  std::string save() const;
  /// Errors   Fault::kStorage as InferenceState::restore; the session is then unchanged.
  void restore(std::string_view bytes);

 private:
  Session(Model& model, InferenceState state);
  Model* model_;
  InferenceState state_;
  Buffer<float> logits_BV_;       // in the backend's memory
  Buffer<float> host_logits_BV_;  // copies for logits(), where the backend's memory is not the host's
};

}  // namespace slipway
