// A decoder: embedding, blocks, norm, head. forward() and backward() train it; infer() runs it with a state.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "comm/group.hpp"
#include "io/model/model_spec.hpp"
#include "io/model/tensor_source.hpp"
#include "kernels/backend/backend.hpp"
#include "kernels/backend/graph_cache.hpp"
#include "src/data/batch.hpp"
#include "src/model/head.hpp"
#include "src/model/layers/state.hpp"
#include "src/model/model_layers.hpp"
#include "src/model/parameters.hpp"
#include "src/model/recompute.hpp"

namespace slipway {

/// Options that a model is constructed with.
struct ModelOptions {
  DType compute_dtype = DType::kF32;
  int slots = 1;                                   ///< of the canonical reduction: determines the arena's granule
  const TensorSource* quantized_source = nullptr;  ///< for inference only: its q8_0 matrices stay quantized
  Recompute recompute = Recompute::kNorms;
  std::function<bool(const Parameter&)> frozen;  ///< which parameters are not trained; null: none
  LoraOptions lora;                              ///< which linear layers have LoRA weights; the default: none
  bool use_cuda_graphs = true;  ///< capture whole passes as CUDA graphs where the backend has them (GraphCache)
};

/// Axes: R rows (sequences * tokens), D model width, V vocabulary.
/// Ranks    every member but parameters() and description() is collective over the tensor group.
class Model {
 public:
  /// `backend` and `tensor` must outlive the model. Weights are zero until initialize() or load().
  Model(const ModelSpec& spec, const Backend& backend, Group& tensor, const ModelOptions& options);

  const ModelSpec& spec() const { return spec_; }
  const Backend& backend() const { return backend_; }
  const TensorParallelShard& shard() const { return shard_; }
  Parameters& parameters() { return parameters_; }
  const Parameters& parameters() const { return parameters_; }
  void update_compute_copy() { parameters_.update_compute_copy(backend_, stream_); }  ///< after values changed

  /// Bytes of weights that the matmuls of one row read: the least memory traffic of decoding a token.
  std::uint64_t matmul_weight_bytes() const;

  // The functions below only queue work; their outputs may be read after synchronize() of the backend's memory.

  /// Writes the sum of weight * nats over the batch, in f64, to `*loss_sum`, in the backend's memory. Saves what
  /// backward() needs, including the gradient of `loss_scale * that sum` at the input of the head, since only one chunk
  /// of logits is stored at a time.
  void forward(const Batch& batch, float loss_scale, double* loss_sum);
  /// Adds the gradients of the last forward() to the parameters'.
  void backward();
  /// As forward(), without gradients.
  void loss(const Batch& batch, double* loss_sum);
  /// Nats of every row of the last forward() or loss(), in the backend's memory; 0 where the weight is 0.
  std::span<const float> token_losses() const {
    return {token_losses_.data(), static_cast<std::size_t>(device_batch_.rows)};
  }

  /// An empty state for B sequences of at most `capacity` tokens.
  InferenceState make_state(int sequences, int capacity) const;
  /// Appends ids (B sequences of equal length, one after the other) to the tokens that `state` has seen, and writes the
  /// logits of all their rows, or of each sequence's last row only.
  /// Shapes   ids [B * T]; logits [B * T, V], or [B, V] with `last_only`, in the backend's memory and contiguous.
  void infer(std::span<const int> ids, InferenceState& state, Matrix<float> logits_RV, bool last_only);

 private:
  /// Buffers for R rows; a model keeps one set for the largest pass it has seen.
  struct Workspace {
    int rows = 0, shard_rows = 0;
    bool for_training = false;
    std::vector<Buffer<float>> inputs;  // local rows: of block l at [l], of the last norm at [layers]
    std::vector<std::shared_ptr<BlockActivations>> activations;  // of each block; of a kind the same where they can be
    TensorBuffer hidden;                                         // after the last norm
    Buffer<float> dx, dhidden;
    std::unique_ptr<Scratch> scratch;
  };
  enum class Purpose { kTrain, kInfer };

  /// A batch in device memory.
  struct DeviceBatch {
    int sequences = 0, tokens_per_sequence = 0, rows = 0;
    const int *ids = nullptr, *positions = nullptr, *key_start = nullptr, *targets = nullptr;
    const std::uint8_t* document_starts = nullptr;
    const float *weights = nullptr, *scaled_weights = nullptr;
  };

  MemorySpace& space() const { return *backend_.memory; }
  bool recompute_blocks() const { return options_.recompute == Recompute::kBlocks; }
  void reserve_workspace(int rows, Purpose purpose);
  void extend_rope(int positions);
  void upload(const Batch& batch, float loss_scale);
  PassContext make_training_context();
  LossRows loss_rows();
  void sum_losses(double* loss_sum);
  void run_backward(const PassContext& pass);
  template <class Ops>
  void run_captured(Purpose purpose, bool is_backward, const Ops& ops);
  PassContext make_pass_context(int sequences, int tokens_per_sequence, const int* positions);
  Matrix<float> block_input(int layer, int rows);
  const Block& block(int layer) const { return layers_.blocks[static_cast<std::size_t>(layer)]; }
  BlockActivations& activations_of(int layer) { return *workspace_.activations[static_cast<std::size_t>(layer)]; }
  void embed(const PassContext& pass, const int* device_ids);
  void embed_quantized(const PassContext& pass, std::span<const int> ids);
  void add_position_embeddings(const PassContext& pass, Matrix<float> x_UD);
  void position_embedding_grad(const PassContext& pass, Matrix<const float> dx_RD);
  void run_blocks(const PassContext& pass);

  ModelSpec spec_;
  const Backend& backend_;
  Group& tensor_;
  ModelOptions options_;
  TensorParallelShard shard_;
  Stream stream_ = backend_.main_stream();
  Parameters parameters_;
  ModelLayers layers_;
  LossHead loss_head_;
  Buffer<float> cos_, sin_;
  int rope_positions_ = 0;
  Workspace workspace_;
  Buffer<float> token_losses_;
  std::vector<float> scaled_weights_;
  StagedUpload<int> ids_, positions_, key_start_, targets_;
  StagedUpload<std::uint8_t> document_starts_;
  StagedUpload<float> weights_, scaled_weights_upload_;
  DeviceBatch device_batch_;  // of the last forward() or loss()
  bool forward_done_ = false;
  GraphCache graph_cache_;
};

}  // namespace slipway
