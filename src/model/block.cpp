#include "src/model/block.hpp"

#include <cmath>
#include <cstring>

#include "src/core/profile.hpp"

namespace slipway {
namespace {

// Deviation of a matrix's first values: somewhat below what keeps the variance of its input (docs/numerics.md).
float deviation_of(int inputs) { return 0.8f / std::sqrt(static_cast<float>(inputs)); }

std::size_t elements(int rows, int cols) { return static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols); }

std::span<float> span_of(Matrix<float> m) { return {m.data, static_cast<std::size_t>(m.size())}; }

/// The heads of every row as rows of their own: [R, H*K] -> [R*H, K].
Matrix<float> heads_as_rows(Matrix<float> x, int head_width) {
  const int rows = static_cast<int>(x.size() / head_width);
  return {x.data, rows, head_width, head_width};
}

}  // namespace

BlockActivations::BlockActivations(const ModelDescription& model, const TensorSplit& split, int rows) {
  const int D = model.width, HK = split.heads.room * model.head_width, GK = split.kv_heads.room * model.head_width,
            F = split.ffn.room;
  for (Buffer<float>* buffer : {&normed_RD, &middle_RD, &ffn_normed_RD}) *buffer = Buffer<float>(elements(rows, D));
  for (Buffer<float>* buffer : {&gate_RF, &up_RF, &gated_RF}) *buffer = Buffer<float>(elements(rows, F));
  for (Buffer<float>* buffer : {&q_RHK, &mixed_RHK}) *buffer = Buffer<float>(elements(rows, HK));
  for (Buffer<float>* buffer : {&k_RGK, &v_RGK}) *buffer = Buffer<float>(elements(rows, GK));
  lse_RH = Buffer<float>(elements(rows, split.heads.room));
  if (model.qk_norm) raw_q_RHK = Buffer<float>(elements(rows, HK)), raw_k_RGK = Buffer<float>(elements(rows, GK));
}

BlockGradients::BlockGradients(const ModelDescription& model, const TensorSplit& split, int rows) {
  const int D = model.width, HK = split.heads.room * model.head_width, GK = split.kv_heads.room * model.head_width,
            F = split.ffn.room;
  dnormed_RD = Buffer<float>(elements(rows, D));
  for (Buffer<float>* buffer : {&dgate_RF, &dup_RF}) *buffer = Buffer<float>(elements(rows, F));
  for (Buffer<float>* buffer : {&dq_RHK, &dmixed_RHK}) *buffer = Buffer<float>(elements(rows, HK));
  for (Buffer<float>* buffer : {&dk_RGK, &dv_RGK}) *buffer = Buffer<float>(elements(rows, GK));
}

Block::Block(const ModelDescription& model, const TensorSplit& split, int layer, Parameters& parameters)
    : model_(model), split_(split), layer_(layer) {
  const std::string prefix = join("blk.", layer, ".");
  const int D = model.width, K = model.head_width;
  // The two products that write to the residual stream shrink with depth: 2 * layers of them add up in it.
  const float residual = 1.0f / std::sqrt(2.0f * static_cast<float>(model.layers));

  const auto norm = [&](const char* name, int width, bool partial = false) {
    return parameters.add({.name = prefix + name,
                           .component = "norm",
                           .vector = true,
                           .rows = 1,
                           .cols = width,
                           .local_rows = 1,
                           .local_cols = width,
                           .partial_gradient = partial,
                           .init = Init::kOnes});
  };
  // A matrix whose rows are divided, `unit` rows to a head (or one to a feed-forward channel).
  const auto by_rows = [&](const char* name, const char* component, int rows, int inputs, Share share, int unit,
                           bool whole) {
    return parameters.add({.name = prefix + name,
                           .component = component,
                           .rows = rows,
                           .cols = inputs,
                           .shard = whole ? ShardAxis::kWhole : ShardAxis::kRows,
                           .first = share.first * unit,
                           .count = share.count * unit,
                           .local_rows = share.room * unit,
                           .local_cols = inputs,
                           .group = kMatrices,
                           .partial_gradient = whole && split_.size > 1,
                           .deviation = deviation_of(inputs)});
  };
  const auto by_cols = [&](const char* name, const char* component, int inputs, Share share, int unit) {
    return parameters.add({.name = prefix + name,
                           .component = component,
                           .rows = D,
                           .cols = inputs,
                           .shard = ShardAxis::kCols,
                           .first = share.first * unit,
                           .count = share.count * unit,
                           .local_rows = D,
                           .local_cols = share.room * unit,
                           .group = kMatrices,
                           .deviation = residual * deviation_of(inputs)});
  };
  const auto bias = [&](const char* name, int width, Share share, bool whole) {
    return parameters.add({.name = prefix + name,
                           .component = "attention",
                           .vector = true,
                           .rows = 1,
                           .cols = width,
                           .shard = whole ? ShardAxis::kWhole : ShardAxis::kCols,
                           .first = share.first * K,
                           .count = share.count * K,
                           .local_rows = 1,
                           .local_cols = share.room * K,
                           .partial_gradient = whole && split_.size > 1,
                           .init = Init::kZeros});
  };

  const bool tensor = split.size > 1;
  at_.attn_norm = norm("attn_norm.weight", D);
  at_.q = by_rows("attn_q.weight", "attention", model.heads * K, D, split.heads, K, false);
  at_.k = by_rows("attn_k.weight", "attention", model.kv_heads * K, D, split.kv_heads, K, split.kv_whole);
  at_.v = by_rows("attn_v.weight", "attention", model.kv_heads * K, D, split.kv_heads, K, split.kv_whole);
  if (model.qkv_bias) {
    at_.q_bias = bias("attn_q.bias", model.heads * K, split.heads, false);
    at_.k_bias = bias("attn_k.bias", model.kv_heads * K, split.kv_heads, split.kv_whole);
    at_.v_bias = bias("attn_v.bias", model.kv_heads * K, split.kv_heads, split.kv_whole);
  }
  if (model.qk_norm) {
    at_.q_norm = norm("attn_q_norm.weight", K, tensor);
    at_.k_norm = norm("attn_k_norm.weight", K, tensor);
  }
  at_.output = by_cols("attn_output.weight", "attention", model.heads * K, split.heads, K);
  at_.ffn_norm = norm("ffn_norm.weight", D);
  at_.gate = by_rows("ffn_gate.weight", "ffn", model.ffn, D, split.ffn, 1, false);
  at_.up = by_rows("ffn_up.weight", "ffn", model.ffn, D, split.ffn, 1, false);
  at_.down = by_cols("ffn_down.weight", "ffn", model.ffn, split.ffn, 1);
}

AttentionShape Block::attention_shape(const Pass& pass) const {
  AttentionShape shape = pass.attention;
  shape.heads = split_.heads.room;
  shape.kv_heads = split_.kv_heads.room;
  shape.head_width = model_.head_width;
  shape.group = model_.heads / model_.kv_heads;
  shape.first_head = split_.kv_whole ? split_.heads.first : 0;
  shape.scale = 1.0f / std::sqrt(static_cast<float>(model_.head_width));
  return shape;
}

/// Attention over this pass's rows, or over the state's rows with this pass's appended.
void Block::attend(const Pass& pass, BlockActivations& kept, int rows) const {
  AttentionShape shape = attention_shape(pass);
  const int HK = shape.heads * shape.head_width, GK = shape.kv_heads * shape.head_width;
  Matrix<const float> k = kept.k_RGK.matrix(rows, GK), v = kept.v_RGK.matrix(rows, GK);
  if (pass.state != nullptr) {
    KvCache& cache = pass.state->layer(layer_);
    shape.keys = pass.state->length() + shape.queries;
    shape.key_rows = pass.state->capacity();
    const std::size_t bytes = elements(shape.queries, GK) * sizeof(float);
    for (int b = 0; b < shape.sequences; ++b) {
      const std::size_t to = elements(b * shape.key_rows + pass.state->length(), GK);
      std::memcpy(cache.k_SGK.data() + to, k.row(b * shape.queries), bytes);
      std::memcpy(cache.v_SGK.data() + to, v.row(b * shape.queries), bytes);
    }
    k = cache.k_SGK.matrix(shape.sequences * shape.key_rows, GK);
    v = cache.v_SGK.matrix(shape.sequences * shape.key_rows, GK);
  }
  pass.kernels.attention(pass.stream, {.shape = shape,
                                       .q_NHK = kept.q_RHK.matrix(rows, HK),
                                       .k_SGK = k,
                                       .v_SGK = v,
                                       .out_NHK = kept.mixed_RHK.matrix(rows, HK),
                                       .lse_NH = kept.lse_RH.matrix(rows, shape.heads)});
  // Padded heads have no query but see real values: silenced here, they stay without gradient in both directions.
  const int real = split_.heads.count * shape.head_width;
  if (real == HK) return;
  for (int r = 0; r < rows; ++r)
    std::memset(kept.mixed_RHK.matrix(rows, HK).row(r) + real, 0, sizeof(float) * static_cast<std::size_t>(HK - real));
}

void Block::forward(const Pass& pass, Matrix<const float> x_RD, BlockActivations& kept, Matrix<float> y_RD) const {
  const profile::Scope scope("block forward");
  const KernelTable& run = pass.kernels;
  Parameters& p = pass.parameters;
  const int R = x_RD.rows, D = model_.width, K = model_.head_width, F = split_.ffn.room;
  const int HK = split_.heads.room * K, GK = split_.kv_heads.room * K;
  const auto eps = static_cast<float>(model_.norm_eps);

  const Matrix<float> normed = kept.normed_RD.matrix(R, D);
  run.rms_norm(pass.stream, {x_RD, p.value(at_.attn_norm).data, normed, eps});

  // Projections to heads; with q and k norms they first land beside their normalized selves.
  const Matrix<float> q = kept.q_RHK.matrix(R, HK), k = kept.k_RGK.matrix(R, GK), v = kept.v_RGK.matrix(R, GK);
  const Matrix<float> raw_q = model_.qk_norm ? kept.raw_q_RHK.matrix(R, HK) : q;
  const Matrix<float> raw_k = model_.qk_norm ? kept.raw_k_RGK.matrix(R, GK) : k;
  pass.products.forward(normed, p.weight(at_.q), raw_q);
  pass.products.forward(normed, p.weight(at_.k), raw_k);
  pass.products.forward(normed, p.weight(at_.v), v);
  if (model_.qkv_bias) {
    run.add_bias(pass.stream, {p.value(at_.q_bias).data, raw_q});
    run.add_bias(pass.stream, {p.value(at_.k_bias).data, raw_k});
    run.add_bias(pass.stream, {p.value(at_.v_bias).data, v});
  }
  if (model_.qk_norm) {
    run.rms_norm(pass.stream, {heads_as_rows(raw_q, K), p.value(at_.q_norm).data, heads_as_rows(q, K), eps});
    run.rms_norm(pass.stream, {heads_as_rows(raw_k, K), p.value(at_.k_norm).data, heads_as_rows(k, K), eps});
  }
  for (const Matrix<float>& heads : {q, k})
    run.rope(
        pass.stream,
        {.x_NHK = heads, .position_N = pass.position_R, .cos_PJ = pass.cos_PJ, .sin_PJ = pass.sin_PJ, .head_width = K});

  attend(pass, kept, R);

  const Matrix<float> middle = kept.middle_RD.matrix(R, D);
  pass.products.forward(kept.mixed_RHK.matrix(R, HK), p.weight(at_.output), middle);
  pass.tensor.all_reduce_sum(span_of(middle));
  run.add(pass.stream, {{x_RD.data, static_cast<std::size_t>(x_RD.size())}, span_of(middle)});

  const Matrix<float> ffn_normed = kept.ffn_normed_RD.matrix(R, D);
  const Matrix<float> gate = kept.gate_RF.matrix(R, F), up = kept.up_RF.matrix(R, F),
                      gated = kept.gated_RF.matrix(R, F);
  run.rms_norm(pass.stream, {middle, p.value(at_.ffn_norm).data, ffn_normed, eps});
  pass.products.forward(ffn_normed, p.weight(at_.gate), gate);
  pass.products.forward(ffn_normed, p.weight(at_.up), up);
  run.swiglu(pass.stream, {gate, up, gated});
  pass.products.forward(gated, p.weight(at_.down), y_RD);
  pass.tensor.all_reduce_sum(span_of(y_RD));
  run.add(pass.stream, {span_of(middle), span_of(y_RD)});
}

void Block::backward(const Pass& pass, Matrix<const float> x_RD, BlockActivations& kept, BlockGradients& scratch,
                     Matrix<float> dx_RD) const {
  const profile::Scope scope("block backward");
  const KernelTable& run = pass.kernels;
  Parameters& p = pass.parameters;
  const DType compute = p.compute();
  const int R = x_RD.rows, D = model_.width, K = model_.head_width, F = split_.ffn.room;
  const int HK = split_.heads.room * K, GK = split_.kv_heads.room * K;
  const auto eps = static_cast<float>(model_.norm_eps);
  const Matrix<float> dnormed = scratch.dnormed_RD.matrix(R, D);

  // Feed-forward: y = middle + gated Wd.
  const Matrix<float> gate = kept.gate_RF.matrix(R, F), up = kept.up_RF.matrix(R, F),
                      gated = kept.gated_RF.matrix(R, F);
  const Matrix<float> ffn_normed = kept.ffn_normed_RD.matrix(R, D), middle = kept.middle_RD.matrix(R, D);
  const Matrix<float> dgate = scratch.dgate_RF.matrix(R, F), dup = scratch.dup_RF.matrix(R, F);
  pass.products.weight_gradient(dx_RD, gated, p.gradient(at_.down), compute);
  pass.products.input_gradient(dx_RD, p.weight(at_.down), dup);
  run.swiglu_grad(pass.stream, {.gate_RF = gate, .up_RF = up, .dy_RF = dup, .dgate_RF = dgate, .dup_RF = dup});
  pass.products.weight_gradient(dgate, ffn_normed, p.gradient(at_.gate), compute);
  pass.products.weight_gradient(dup, ffn_normed, p.gradient(at_.up), compute);
  pass.products.input_gradient(dgate, p.weight(at_.gate), dnormed);
  pass.products.input_gradient(dup, p.weight(at_.up), dnormed, /*accumulate=*/true);
  pass.tensor.all_reduce_sum(span_of(dnormed));
  run.rms_norm_grad(pass.stream, {.x_RD = middle,
                                  .gain_D = p.value(at_.ffn_norm).data,
                                  .dy_RD = dnormed,
                                  .dx_RD = dx_RD,
                                  .dgain_D = p.gradient(at_.ffn_norm).data,
                                  .eps = eps,
                                  .accumulate_dx = true});

  // Attention: middle = x + mixed Wo.
  const Matrix<float> q = kept.q_RHK.matrix(R, HK), k = kept.k_RGK.matrix(R, GK), v = kept.v_RGK.matrix(R, GK);
  const Matrix<float> mixed = kept.mixed_RHK.matrix(R, HK), normed = kept.normed_RD.matrix(R, D),
                      dmixed = scratch.dmixed_RHK.matrix(R, HK);
  const Matrix<float> dq = scratch.dq_RHK.matrix(R, HK), dk = scratch.dk_RGK.matrix(R, GK),
                      dv = scratch.dv_RGK.matrix(R, GK);
  pass.products.weight_gradient(dx_RD, mixed, p.gradient(at_.output), compute);
  pass.products.input_gradient(dx_RD, p.weight(at_.output), dmixed);
  run.attention_grad(pass.stream, {.shape = attention_shape(pass),
                                   .q_NHK = q,
                                   .k_SGK = k,
                                   .v_SGK = v,
                                   .out_NHK = mixed,
                                   .lse_NH = kept.lse_RH.matrix(R, split_.heads.room),
                                   .dout_NHK = dmixed,
                                   .dq_NHK = dq,
                                   .dk_SGK = dk,
                                   .dv_SGK = dv});
  for (const Matrix<float>& heads : {dq, dk})
    run.rope(pass.stream, {.x_NHK = heads,
                           .position_N = pass.position_R,
                           .cos_PJ = pass.cos_PJ,
                           .sin_PJ = pass.sin_PJ,
                           .head_width = K,
                           .inverse = true});
  if (model_.qk_norm) {
    const Matrix<float> q_rows = heads_as_rows(dq, K), k_rows = heads_as_rows(dk, K);
    run.rms_norm_grad(pass.stream, {.x_RD = heads_as_rows(kept.raw_q_RHK.matrix(R, HK), K),
                                    .gain_D = p.value(at_.q_norm).data,
                                    .dy_RD = q_rows,
                                    .dx_RD = q_rows,
                                    .dgain_D = p.gradient(at_.q_norm).data,
                                    .eps = eps});
    run.rms_norm_grad(pass.stream, {.x_RD = heads_as_rows(kept.raw_k_RGK.matrix(R, GK), K),
                                    .gain_D = p.value(at_.k_norm).data,
                                    .dy_RD = k_rows,
                                    .dx_RD = k_rows,
                                    .dgain_D = p.gradient(at_.k_norm).data,
                                    .eps = eps});
  }
  if (model_.qkv_bias) {
    run.bias_grad(pass.stream, {dq, p.gradient(at_.q_bias).data});
    run.bias_grad(pass.stream, {dk, p.gradient(at_.k_bias).data});
    run.bias_grad(pass.stream, {dv, p.gradient(at_.v_bias).data});
  }
  pass.products.weight_gradient(dq, normed, p.gradient(at_.q), compute);
  pass.products.weight_gradient(dk, normed, p.gradient(at_.k), compute);
  pass.products.weight_gradient(dv, normed, p.gradient(at_.v), compute);
  pass.products.input_gradient(dq, p.weight(at_.q), dnormed);
  pass.products.input_gradient(dk, p.weight(at_.k), dnormed, /*accumulate=*/true);
  pass.products.input_gradient(dv, p.weight(at_.v), dnormed, /*accumulate=*/true);
  pass.tensor.all_reduce_sum(span_of(dnormed));
  run.rms_norm_grad(pass.stream, {.x_RD = x_RD,
                                  .gain_D = p.value(at_.attn_norm).data,
                                  .dy_RD = dnormed,
                                  .dx_RD = dx_RD,
                                  .dgain_D = p.gradient(at_.attn_norm).data,
                                  .eps = eps,
                                  .accumulate_dx = true});
}

}  // namespace slipway
