#include "src/infer/session.hpp"

#include <algorithm>
#include <vector>

#include "src/core/allocation_tag.hpp"

namespace slipway {
namespace {

constexpr int kPrefillChunk = 512;  // tokens; matmuls reach full speed from here on, and the workspace stays small

}  // namespace

Session::Session(Model& model, int sequences, int capacity) : Session(model, model.make_state(sequences, capacity)) {}

Session::Session(Model& model, InferenceState state) : model_(&model), state_(std::move(state)) {
  const AllocationTag tag(MemoryKind::kLogits, "the logits");
  logits_BV_ =
      Buffer<float>(static_cast<std::size_t>(state_.sequences()) * static_cast<std::size_t>(model.spec().vocabulary),
                    *model.backend().memory);
}

void Session::decode(std::span<const int> ids_BT) {
  const int B = sequences(), V = model_->spec().vocabulary;
  require(ids_BT.size() % static_cast<std::size_t>(B) == 0,
          "Session::decode: ids are not equally many for every sequence");
  const int T = static_cast<int>(ids_BT.size()) / B, chunk_tokens = std::max(1, kPrefillChunk / B);
  std::vector<int> chunk;
  for (int first = 0; first < T; first += chunk_tokens) {
    const int count = std::min(chunk_tokens, T - first);
    chunk.clear();
    for (int b = 0; b < B; ++b) {
      const auto begin = ids_BT.begin() + (b * T + first);
      chunk.insert(chunk.end(), begin, begin + count);
    }
    model_->infer(chunk, state_, logits_BV_.matrix(B, V), /*last_only=*/true);
  }
}

Matrix<const float> Session::device_logits() const {
  const int V = model_->spec().vocabulary;
  return {logits_BV_.data(), sequences(), V, V};
}

std::string Session::save() const {
  // A TensorView is mutable, but InferenceState::save only reads it.
  const TensorView logits = const_cast<Buffer<float>&>(logits_BV_).matrix(sequences(), model_->spec().vocabulary);
  return state_.save({&logits, 1});
}

void Session::restore(std::string_view bytes) {
  const TensorView logits = logits_BV_.matrix(sequences(), model_->spec().vocabulary);
  state_.restore(bytes, {&logits, 1});
}

std::span<const float> Session::logits(int sequence) {
  const auto V = static_cast<std::size_t>(model_->spec().vocabulary), first = static_cast<std::size_t>(sequence) * V;
  if (logits_BV_.space().is_host()) return logits_BV_.span().subspan(first, V);
  host_logits_BV_.reserve(logits_BV_.size());
  logits_BV_.space().read(host_logits_BV_.data() + first, logits_BV_.data() + first, V * sizeof(float));
  return host_logits_BV_.span().subspan(first, V);
}

Session Session::fork() const {
  Session copy(*model_, state_.fork());
  logits_BV_.space().copy(copy.logits_BV_.data(), logits_BV_.data(), logits_BV_.size() * sizeof(float));
  return copy;
}

}  // namespace slipway
