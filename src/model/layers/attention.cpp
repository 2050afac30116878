#include "src/model/layers/attention.hpp"

#include <cmath>

#include "src/core/allocation_tag.hpp"
#include "src/model/elements.hpp"

namespace slipway {
namespace {

// Names of scratch buffers.
constexpr std::string_view kDqkv = "dqkv", kDattentionOut = "dattention_out";

}  // namespace

KvCache::KvCache(int sequences, int capacity, int kv_width, DType compute_dtype, MemorySpace& space)
    : sequences_(sequences), capacity_(capacity), kv_width_(kv_width), compute_dtype_(compute_dtype), space_(&space) {
  const AllocationTag tag(MemoryKind::kKvCache, "the keys and values of", std::int64_t{sequences} * capacity, "tokens");
  const std::size_t size = static_cast<std::size_t>(sequences) * elements(capacity, kv_width);
  keys_ = TensorBuffer(compute_dtype, size, space);
  values_ = TensorBuffer(compute_dtype, size, space);
}

std::unique_ptr<LayerState> KvCache::fork() const {
  auto copy = std::make_unique<KvCache>(sequences_, capacity_, kv_width_, compute_dtype_, *space_);
  copy->keys_.copy_from(keys_);
  copy->values_.copy_from(values_);
  return copy;
}

std::vector<TensorView> KvCache::contents(int length) {
  std::vector<TensorView> matrices;
  for (int sequence = 0; sequence < sequences_; ++sequence)
    for (const TensorView& view : {k_SGK(), v_SGK()}) matrices.push_back(view.view_rows(sequence * capacity_, length));
  return matrices;
}

void KvCache::copy_sequence(int to, const LayerState& other, int from) {
  auto& source = const_cast<KvCache&>(dynamic_cast<const KvCache&>(other));  // its views are mutable; only read here
  require(source.capacity_ <= capacity_ && source.kv_width_ == kv_width_ && source.compute_dtype_ == compute_dtype_,
          "KvCache::copy_sequence: the caches have different shapes");
  const std::size_t bytes = elements(source.capacity_, kv_width_) * bytes_of(compute_dtype_);
  const auto copy = [&](TensorView target, TensorView origin) {
    target = target.view_rows(to * capacity_, source.capacity_);
    origin = origin.view_rows(from * source.capacity_, source.capacity_);
    space_->copy(target.data, origin.data, bytes);
  };
  copy(k_SGK(), source.k_SGK());
  copy(v_SGK(), source.v_SGK());
}

/// About (2 H + 2 G) K elements of the compute type per row.
struct AttentionLayer::Saved : LayerActivations {
  TensorBuffer qkv_RC;         ///< C = (H + 2 G) K, in one matrix; q and k are rotated in place unless they have norms
  TensorBuffer rotated_qk_RC;  ///< with norms: q and k after norm and rotation, C = (H + G) K; else empty
  TensorBuffer attention_out_RHK;
  Buffer<float> lse_RH;
};

AttentionLayer::AttentionLayer(const ModelSpec& model, const TensorParallelShard& shard, int layer,
                               Parameters& parameters, const LoraOptions& lora)
    : shard_(shard),
      heads_per_kv_(model.heads / model.kv_heads),
      head_width_(model.head_width),
      eps_(static_cast<float>(model.norm_eps)),
      has_rope_(!model.learned_positions) {
  ParameterBuilder builder(parameters, join("blk.", layer, "."), "attention");
  const ShardedAxis q_rows{shard.heads, model.head_width},
      kv_rows{shard.kv_heads, model.head_width, shard.kv_replicated};
  q_.weight = builder.column_parallel("attn_q.weight", q_rows, model.width);
  k_.weight = builder.column_parallel("attn_k.weight", kv_rows, model.width);
  v_.weight = builder.column_parallel("attn_v.weight", kv_rows, model.width);
  if (model.qkv_bias) {
    q_.bias = builder.bias("attn_q.bias", q_rows);
    k_.bias = builder.bias("attn_k.bias", kv_rows);
    v_.bias = builder.bias("attn_v.bias", kv_rows);
  }
  if (model.qk_norm) {
    q_norm_ = builder.gain("attn_q_norm.weight", model.head_width);
    k_norm_ = builder.gain("attn_k_norm.weight", model.head_width);
  }
  output_.weight = builder.row_parallel("attn_output.weight", model.width, q_rows, residual_init_scale(model.layers));
  if (model.output_bias) output_.bias = builder.bias("attn_output.bias", model.width);
  for (Linear* linear : {&q_, &k_, &v_, &output_}) builder.add_lora(*linear, lora);
}

std::unique_ptr<LayerActivations> AttentionLayer::make_activations(const ActivationSizes& sizes) const {
  auto saved = std::make_unique<Saved>();
  const auto make_buffer = [&](int cols) {
    return TensorBuffer(sizes.compute_dtype, elements(sizes.rows, cols), *sizes.space);
  };
  saved->qkv_RC = make_buffer(qkv_width()), saved->attention_out_RHK = make_buffer(q_width());
  if (q_norm_ >= 0) saved->rotated_qk_RC = make_buffer(q_width() + kv_width());
  saved->lse_RH = Buffer<float>(elements(sizes.rows, shard_.heads.padded_size), *sizes.space);
  return saved;
}

void AttentionLayer::reserve_scratch(Scratch& scratch, const ActivationSizes& sizes) const {
  reserve_lora(scratch, sizes.compute_dtype, sizes.rows, {q_, k_, v_}, qkv_width());
  reserve_lora(scratch, sizes.compute_dtype, sizes.rows, {output_}, q_width());
  if (!sizes.training) return;
  scratch.reserve(kDqkv, sizes.compute_dtype, elements(sizes.rows, qkv_width()));
  scratch.reserve(kDattentionOut, sizes.compute_dtype, elements(sizes.rows, q_width()));
}

std::unique_ptr<LayerState> AttentionLayer::make_state(int sequences, int capacity, DType compute_dtype,
                                                       MemorySpace& space) const {
  return std::make_unique<KvCache>(sequences, capacity, kv_width(), compute_dtype, space);
}

double AttentionLayer::sequence_flops(double tokens) const {
  const double pairs = tokens * (tokens + 1) / 2;  // causal: each token attends to itself and to those before it
  constexpr double kMatmuls = 2 + 5;               // forward q k, p v; backward: s again, dp, dq, dk, dv
  return kMatmuls * 2.0 * pairs * shard_.heads.total * head_width_;
}

AttentionShape AttentionLayer::attention_shape(const PassContext& pass) const {
  AttentionShape shape = pass.attention;
  shape.heads = shard_.heads.padded_size;
  shape.kv_heads = shard_.kv_heads.padded_size;
  shape.head_width = head_width_;
  shape.queries_per_kv = heads_per_kv_;
  shape.first_head = shard_.kv_replicated ? shard_.heads.first : 0;
  shape.scale = 1.0f / std::sqrt(static_cast<float>(head_width_));
  return shape;
}

AttentionLayer::Heads AttentionLayer::split_heads(const TensorView& qkv_RC) const {
  const int HK = q_width(), GK = kv_width();
  return {qkv_RC.view_cols(0, HK), qkv_RC.view_cols(HK, GK), qkv_RC.view_cols(HK + GK, GK),
          qkv_RC.view_cols(0, HK + GK)};
}

AttentionLayer::Heads AttentionLayer::attention_inputs(Saved& saved, int rows) const {
  Heads heads = split_heads(saved.qkv_RC.matrix(rows, qkv_width()));
  if (q_norm_ < 0) return heads;
  heads.qk_RC = saved.rotated_qk_RC.matrix(rows, q_width() + kv_width());
  heads.q_RHK = heads.qk_RC.view_cols(0, q_width()), heads.k_RGK = heads.qk_RC.view_cols(q_width(), kv_width());
  return heads;
}

void AttentionLayer::normalize_heads(const PassContext& pass, const Heads& unnormed, const Heads& normed) const {
  if (q_norm_ < 0) return;
  Parameters& p = pass.parameters;
  pass.backend.rms_norm(
      pass.stream, {unnormed.q_RHK, p.value(q_norm_).data, normed.q_RHK, eps_, /*groups=*/shard_.heads.padded_size});
  pass.backend.rms_norm(
      pass.stream, {unnormed.k_RGK, p.value(k_norm_).data, normed.k_RGK, eps_, /*groups=*/shard_.kv_heads.padded_size});
}

void AttentionLayer::normalize_heads_grad(const PassContext& pass, const Heads& unnormed, const Heads& grads) const {
  if (q_norm_ < 0) return;
  const auto grad = [&](const TensorView& x, const TensorView& dx, Parameters::Handle gain, int groups) {
    pass.backend.rms_norm_grad(pass.stream, {.x_RD = x,
                                             .gain_D = pass.parameters.value(gain).data,
                                             .dy_RD = dx,
                                             .dx_RD = dx,
                                             .dgain_D = vector_gradient(pass, gain, /*contributes=*/true),
                                             .eps = eps_,
                                             .groups = groups});
  };
  grad(unnormed.q_RHK, grads.q_RHK, q_norm_, shard_.heads.padded_size);
  grad(unnormed.k_RGK, grads.k_RGK, k_norm_, shard_.kv_heads.padded_size);
}

void AttentionLayer::apply_rope(const PassContext& pass, const Heads& heads, bool inverse) const {
  if (!has_rope_) return;
  pass.backend.rope(pass.stream, {.x_NHK = heads.qk_RC,
                                  .position_N = pass.position_R,
                                  .cos_PJ = pass.cos_PJ,
                                  .sin_PJ = pass.sin_PJ,
                                  .head_width = head_width_,
                                  .inverse = inverse});
}

/// Attention over the rows of this pass, or over the cache's rows with those of this pass appended.
void AttentionLayer::attend(const PassContext& pass, Saved& saved, KvCache* cache, int rows) const {
  AttentionShape shape = attention_shape(pass);
  const Heads heads = attention_inputs(saved, rows);
  ConstTensorView k = heads.k_RGK, v = heads.v_RGK;
  if (cache != nullptr) {
    shape.keys = pass.state->length() + shape.queries;
    shape.key_rows = pass.state->capacity();
    const TensorView k_SGK = cache->k_SGK(), v_SGK = cache->v_SGK();
    for (int b = 0; b < shape.sequences; ++b) {
      const int from = b * shape.queries, to = b * shape.key_rows + pass.state->length();
      pass.backend.copy(pass.stream, {k.view_rows(from, shape.queries), k_SGK.view_rows(to, shape.queries)});
      pass.backend.copy(pass.stream, {v.view_rows(from, shape.queries), v_SGK.view_rows(to, shape.queries)});
    }
    k = k_SGK, v = v_SGK;
  }
  const TensorView attention_out = saved.attention_out_RHK.matrix(rows, q_width());
  pass.backend.attention(pass.stream, {.shape = shape,
                                       .q_NHK = heads.q_RHK,
                                       .k_SGK = k,
                                       .v_SGK = v,
                                       .out_NHK = attention_out,
                                       .lse_NH = saved.lse_RH.matrix(rows, shape.heads)});
  // Padded heads have zero queries but attend to real values. Their outputs are cleared here, so that neither the
  // weights before them nor those after them get a gradient from padding.
  const int unpadded_width = shard_.heads.count * shape.head_width;
  if (unpadded_width < q_width())
    pass.backend.clear(pass.stream, {attention_out.view_cols(unpadded_width, q_width() - unpadded_width)});
}

void AttentionLayer::forward(const PassContext& pass, const NormedRows& input, LayerActivations& activations,
                             LayerState* state, const Residual& residual) const {
  auto& saved = static_cast<Saved&>(activations);
  const int R = pass.rows.global_rows();
  const TensorView qkv = saved.qkv_RC.matrix(R, qkv_width());
  project(pass, {q_, k_, v_}, input, qkv);
  normalize_heads(pass, split_heads(qkv), attention_inputs(saved, R));
  apply_rope(pass, attention_inputs(saved, R), /*inverse=*/false);
  attend(pass, saved, static_cast<KvCache*>(state), R);
  project_to_residual(pass, output_, saved.attention_out_RHK.matrix(R, q_width()), residual);
}

Matrix<float> AttentionLayer::backward(const PassContext& pass, const ResidualGrad& dy, const NormedRows& input,
                                       LayerActivations& activations) const {
  auto& saved = static_cast<Saved&>(activations);
  const int R = pass.rows.global_rows();
  const TensorView attention_out = saved.attention_out_RHK.matrix(R, q_width()),
                   dattention_out = pass.scratch.matrix(kDattentionOut, R, q_width()),
                   dqkv = pass.scratch.matrix(kDqkv, R, qkv_width());
  const Heads heads = attention_inputs(saved, R), unnormed = split_heads(saved.qkv_RC.matrix(R, qkv_width())),
              grads = split_heads(dqkv);
  project_to_residual_input_grad(pass, output_, dy.operand_RD, dattention_out);
  project_to_residual_weight_grad(pass, output_, dy.operand_RD, dy.f32_RD, attention_out);
  pass.backend.attention_grad(pass.stream, {.shape = attention_shape(pass),
                                            .q_NHK = heads.q_RHK,
                                            .k_SGK = heads.k_RGK,
                                            .v_SGK = heads.v_RGK,
                                            .out_NHK = attention_out,
                                            .lse_NH = saved.lse_RH.matrix(R, shard_.heads.padded_size),
                                            .dout_NHK = dattention_out,
                                            .dq_NHK = grads.q_RHK,
                                            .dk_SGK = grads.k_RGK,
                                            .dv_SGK = grads.v_RGK});
  apply_rope(pass, grads, /*inverse=*/true);
  normalize_heads_grad(pass, unnormed, grads);
  return project_grad(pass, {q_, k_, v_}, dqkv, input);
}

}  // namespace slipway
