// A model that reads on, token by token: its state, and the logits after what it has read.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "src/model/model.hpp"

namespace slipway {

/// B sequences of equal length in the memory of one model.
///
/// Axes: B sequences, T tokens, V vocabulary. One model may serve several sessions, one call at a time.
class Session {
 public:
  /// `capacity` tokens a sequence is all that it can ever read. The model must outlive it.
  Session(Model& model, int sequences, int capacity);

  /// Reads T more tokens of every sequence, in pieces, so that memory does not grow with T.
  /// Shapes   ids [B * T], sequence by sequence.
  void decode(std::span<const int> ids_BT);

  /// What comes after the last token read, of every sequence, where the model's kernels read it. Shapes: [B, V].
  Matrix<const float> device_logits() const;
  /// ... of one, on the host, until the next decode(). Shapes: [V].
  /// Cost     where the backend's memory is another one, waits for what was read and copies V numbers.
  std::span<const float> logits(int sequence = 0);

  int sequences() const { return state_.sequences(); }
  int length() const { return state_.length(); }  ///< tokens read, a sequence
  int remaining() const { return state_.capacity() - state_.length(); }
  void rewind(int length) { state_.rewind(length); }  ///< logits() stands again after the next decode()
  Session fork() const;                               ///< an independent continuation of what was read

  /// What was read, and logits(), as bytes: another session of a model with the same spec and weights goes on from
  /// there with the same bits.
  /// Ranks    local: every tensor rank saves, and restores, its own.
  std::string save() const;
  /// Errors   Fault::kStorage as InferenceState::restore; the session is then as before.
  void restore(std::string_view bytes);

 private:
  Session(Model& model, InferenceState state);
  Model* model_;
  InferenceState state_;
  Buffer<float> logits_BV_;  // in the memory of the model's kernels
  Buffer<float> host_BV_;    // where that is not the host's
};

}  // namespace slipway
