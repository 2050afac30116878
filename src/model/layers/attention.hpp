// Causal self-attention with grouped key-value heads.
#pragma once

#include "src/model/layers/layer.hpp"
#include "src/model/layers/parameter_builder.hpp"

namespace slipway {

/// Keys and values of one attention layer for B sequences of at most `capacity` tokens each, in the compute type.
class KvCache : public LayerState {
 public:
  KvCache(int sequences, int capacity, int kv_width, DType compute_dtype, MemorySpace& space);

  std::unique_ptr<LayerState> fork() const override;
  void copy_sequence(int to, const LayerState& other, int from) override;
  void rewind(int) override {}  ///< nothing reads the tokens after the length
  std::vector<TensorView> contents(int length) override;

  TensorView k_SGK() { return keys_.matrix(sequences_ * capacity_, kv_width_); }  ///< rotated
  TensorView v_SGK() { return values_.matrix(sequences_ * capacity_, kv_width_); }

 private:
  int sequences_, capacity_, kv_width_;
  DType compute_dtype_;
  MemorySpace* space_;
  TensorBuffer keys_, values_;
};

/// `y = x + Attention(norm(x) Wq, norm(x) Wk, norm(x) Wv) Wo`, with biases, q and k norms, and RoPE where the model's
/// spec has them.
///
/// Ranks    Wq, Wk and Wv are sharded by heads, Wo by columns.
class AttentionLayer : public Layer {
 public:
  /// Declares the parameters of layer `layer`.
  AttentionLayer(const ModelSpec& model, const TensorParallelShard& shard, int layer, Parameters& parameters,
                 const LoraOptions& lora);

  std::unique_ptr<LayerActivations> make_activations(const ActivationSizes& sizes) const override;
  void reserve_scratch(Scratch& scratch, const ActivationSizes& sizes) const override;
  std::unique_ptr<LayerState> make_state(int sequences, int capacity, DType compute_dtype,
                                         MemorySpace& space) const override;
  void forward(const PassContext& pass, const NormedRows& input, LayerActivations& saved, LayerState* state,
               const Residual& residual) const override;
  Matrix<float> backward(const PassContext& pass, const ResidualGrad& dy, const NormedRows& input,
                         LayerActivations& saved) const override;
  double sequence_flops(double tokens) const override;

 private:
  struct Saved;
  /// Rows of q, k and v as views of one matrix; q and k are adjacent columns.
  struct Heads {
    TensorView q_RHK, k_RGK, v_RGK;
    TensorView qk_RC;  ///< both
  };
  Heads split_heads(const TensorView& qkv_RC) const;
  Heads attention_inputs(Saved& saved, int rows) const;
  void attend(const PassContext& pass, Saved& saved, KvCache* cache, int rows) const;
  void normalize_heads(const PassContext& pass, const Heads& unnormed, const Heads& normed) const;
  void normalize_heads_grad(const PassContext& pass, const Heads& unnormed, const Heads& grads) const;
  void apply_rope(const PassContext& pass, const Heads& heads, bool inverse) const;
  AttentionShape attention_shape(const PassContext& pass) const;
  int q_width() const { return shard_.heads.padded_size * head_width_; }
  int kv_width() const { return shard_.kv_heads.padded_size * head_width_; }
  int qkv_width() const { return q_width() + 2 * kv_width(); }

  TensorParallelShard shard_;
  int heads_per_kv_, head_width_;
  float eps_;
  bool has_rope_;
  Linear q_, k_, v_, output_;
  Parameters::Handle q_norm_ = -1, k_norm_ = -1;
};

}  // namespace slipway
