#include "src/model/block.hpp"

#include <cmath>

#include "src/core/profile.hpp"

namespace slipway {
namespace {

// Deviation of a matrix's first values: somewhat below what keeps the variance of its input (docs/numerics.md).
float deviation_of(int inputs) { return 0.8f / std::sqrt(static_cast<float>(inputs)); }

std::size_t elements(int rows, int cols) { return static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols); }

std::span<float> span_of(Matrix<float> m) { return {m.data, static_cast<std::size_t>(m.size())}; }

}  // namespace

BlockActivations::BlockActivations(const ModelDescription& model, const TensorSplit& split, DType compute, int rows,
                                   MemorySpace& space) {
  const int D = model.width, HK = split.heads.room * model.head_width, GK = split.kv_heads.room * model.head_width,
            F = split.ffn.room;
  const auto room = [&](int cols) { return ActivationBuffer(compute, elements(rows, cols), space); };
  qkv_RC = room(HK + 2 * GK), mixed_RHK = room(HK), gate_up_RC = room(2 * F);
  if (model.qk_norm) turned_RC = room(HK + GK);
  lse_RH = Buffer<float>(elements(rows, split.heads.room), space);
  middle_RD = Buffer<float>(elements(rows, D), space);
}

BlockScratch::BlockScratch(const ModelDescription& model, const TensorSplit& split, DType compute, int rows,
                           bool trains, MemorySpace& space) {
  const int D = model.width, HK = split.heads.room * model.head_width, GK = split.kv_heads.room * model.head_width,
            F = split.ffn.room;
  const auto room = [&](int cols) { return ActivationBuffer(compute, elements(rows, cols), space); };
  normed_RD = room(D), gated_RF = room(F);
  if (!trains) return;
  if (compute != DType::kF32) narrow_dx_RD = room(D);
  dqkv_RC = room(HK + 2 * GK), dmixed_RHK = room(HK), dgated_RF = room(F), dgate_up_RC = room(2 * F);
  dnormed_RD = Buffer<float>(elements(rows, D), space);
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

Block::Heads Block::projected(Activation qkv_RC) const {
  const int HK = q_width(), GK = kv_width();
  return {qkv_RC.view_cols(0, HK), qkv_RC.view_cols(HK, GK), qkv_RC.view_cols(HK + GK, GK)};
}

Block::Heads Block::attended(BlockActivations& kept, int rows) const {
  const int HK = q_width(), GK = kv_width();
  Heads heads = projected(kept.qkv_RC.matrix(rows, HK + 2 * GK));
  if (!model_.qk_norm) return heads;
  const Activation turned_RC = kept.turned_RC.matrix(rows, HK + GK);
  heads.q_RHK = turned_RC.view_cols(0, HK), heads.k_RGK = turned_RC.view_cols(HK, GK);
  return heads;
}

/// Attention over this pass's rows, or over the state's rows with this pass's appended.
void Block::attend(const Pass& pass, BlockActivations& kept, int rows) const {
  AttentionShape shape = attention_shape(pass);
  const int HK = q_width(), GK = kv_width();
  const Heads heads = attended(kept, rows);
  Operand k = heads.k_RGK, v = heads.v_RGK;
  if (pass.state != nullptr) {
    KvCache& cache = pass.state->layer(layer_);
    shape.keys = pass.state->length() + shape.queries;
    shape.key_rows = pass.state->capacity();
    const Activation k_SGK = cache.k_SGK.matrix(shape.sequences * shape.key_rows, GK),
                     v_SGK = cache.v_SGK.matrix(shape.sequences * shape.key_rows, GK);
    for (int b = 0; b < shape.sequences; ++b) {
      const int from = b * shape.queries, to = b * shape.key_rows + pass.state->length();
      pass.kernels.copy(pass.stream, {k.view_rows(from, shape.queries), k_SGK.view_rows(to, shape.queries)});
      pass.kernels.copy(pass.stream, {v.view_rows(from, shape.queries), v_SGK.view_rows(to, shape.queries)});
    }
    k = k_SGK, v = v_SGK;
  }
  const Activation mixed = kept.mixed_RHK.matrix(rows, HK);
  pass.kernels.attention(pass.stream, {.shape = shape,
                                       .q_NHK = heads.q_RHK,
                                       .k_SGK = k,
                                       .v_SGK = v,
                                       .out_NHK = mixed,
                                       .lse_NH = kept.lse_RH.matrix(rows, shape.heads)});
  // Padded heads have no query but see real values: silenced here, they stay without gradient in both directions.
  const int real = split_.heads.count * shape.head_width;
  if (real < HK) pass.kernels.clear(pass.stream, {mixed.view_cols(real, HK - real)});
}

void Block::add_to_stream(const Pass& pass, Parameters::Handle map, const Operand& x_RI,
                          Matrix<const float> residual_RD, Matrix<float> y_RD) const {
  if (pass.tensor.size() == 1) return pass.products.forward_added(x_RI, map, residual_RD, y_RD);
  // Where messages travel beside products, the first half's do while the second half is computed.
  constexpr int kLeastRows = 128;
  const int parts = pass.tensor.only_queues() && y_RD.rows >= 2 * kLeastRows ? 2 : 1;
  for (int part = 0; part < parts; ++part) {
    const int first = y_RD.rows * part / parts, count = y_RD.rows * (part + 1) / parts - first;
    const Matrix<float> rows = y_RD.view_rows(first, count);
    pass.products.forward(x_RI.view_rows(first, count), {map}, rows);
    pass.tensor.aside();
    pass.tensor.all_reduce_sum(span_of(rows));
  }
  pass.tensor.together();
  pass.kernels.add(pass.stream, {{residual_RD.data, static_cast<std::size_t>(residual_RD.size())}, span_of(y_RD)});
}

void Block::forward(const Pass& pass, Matrix<const float> x_RD, BlockActivations& kept, BlockScratch& scratch,
                    Matrix<float> y_RD) const {
  const profile::Scope scope("block forward", {}, layer_);
  const KernelTable& run = pass.kernels;
  Parameters& p = pass.parameters;
  const int R = x_RD.rows, D = model_.width, K = model_.head_width, F = split_.ffn.room;
  const auto eps = static_cast<float>(model_.norm_eps);

  const Activation normed = scratch.normed_RD.matrix(R, D), qkv = kept.qkv_RC.matrix(R, q_width() + 2 * kv_width());
  run.rms_norm(pass.stream, {x_RD, p.value(at_.attn_norm).data, normed, eps});
  pass.products.forward(normed, {at_.q, at_.k, at_.v}, qkv);
  const Heads raw = projected(qkv), heads = attended(kept, R);
  if (model_.qkv_bias) {
    run.add_bias(pass.stream, {p.value(at_.q_bias).data, raw.q_RHK});
    run.add_bias(pass.stream, {p.value(at_.k_bias).data, raw.k_RGK});
    run.add_bias(pass.stream, {p.value(at_.v_bias).data, raw.v_RGK});
  }
  if (model_.qk_norm) {
    run.rms_norm(pass.stream, {raw.q_RHK, p.value(at_.q_norm).data, heads.q_RHK, eps, /*parts=*/split_.heads.room});
    run.rms_norm(pass.stream, {raw.k_RGK, p.value(at_.k_norm).data, heads.k_RGK, eps, /*parts=*/split_.kv_heads.room});
  }
  for (const Activation& turning : {heads.q_RHK, heads.k_RGK})
    run.rope(pass.stream, {.x_NHK = turning,
                           .position_N = pass.position_R,
                           .cos_PJ = pass.cos_PJ,
                           .sin_PJ = pass.sin_PJ,
                           .head_width = K});

  attend(pass, kept, R);

  const Matrix<float> middle = kept.middle_RD.matrix(R, D);
  add_to_stream(pass, at_.output, kept.mixed_RHK.matrix(R, q_width()), x_RD, middle);

  const Activation gate_up = kept.gate_up_RC.matrix(R, 2 * F), gated = scratch.gated_RF.matrix(R, F);
  run.rms_norm(pass.stream, {middle, p.value(at_.ffn_norm).data, normed, eps});
  pass.products.forward(normed, {at_.gate, at_.up}, gate_up);
  run.swiglu(pass.stream, {gate_up.view_cols(0, F), gate_up.view_cols(F, F), gated});
  add_to_stream(pass, at_.down, gated, middle, y_RD);
}

void Block::backward(const Pass& pass, Matrix<const float> x_RD, BlockActivations& kept, BlockScratch& scratch,
                     Matrix<float> dx_RD) const {
  const profile::Scope scope("block backward", {}, layer_);
  const KernelTable& run = pass.kernels;
  Parameters& p = pass.parameters;
  const int R = x_RD.rows, D = model_.width, K = model_.head_width, F = split_.ffn.room;
  const int HK = q_width(), GK = kv_width();
  const auto eps = static_cast<float>(model_.norm_eps);
  const Matrix<float> dnormed = scratch.dnormed_RD.matrix(R, D);

  // Feed-forward: y = middle + gated Wd.
  const Activation normed = scratch.normed_RD.matrix(R, D), gated = scratch.gated_RF.matrix(R, F),
                   gate_up = kept.gate_up_RC.matrix(R, 2 * F), dgate_up = scratch.dgate_up_RC.matrix(R, 2 * F),
                   dgated = scratch.dgated_RF.matrix(R, F);
  const Operand dy = scratch.narrow(dx_RD);
  pass.products.input_gradient(dy, {at_.down}, dgated);
  run.swiglu_grad(pass.stream, {.gate_RF = gate_up.view_cols(0, F),
                                .up_RF = gate_up.view_cols(F, F),
                                .dy_RF = dgated,
                                .dgate_RF = dgate_up.view_cols(0, F),
                                .dup_RF = dgate_up.view_cols(F, F),
                                .y_RF = gated});
  pass.products.weight_gradient(dy, gated, {at_.down});
  pass.products.input_gradient(dgate_up, {at_.gate, at_.up}, dnormed);
  pass.tensor.aside();
  pass.tensor.all_reduce_sum(span_of(dnormed));
  run.rms_norm(pass.stream, {kept.middle_RD.matrix(R, D), p.value(at_.ffn_norm).data, normed, eps});
  pass.products.weight_gradient(dgate_up, normed, {at_.gate, at_.up});
  pass.tensor.together();
  run.rms_norm_grad(pass.stream, {.x_RD = kept.middle_RD.matrix(R, D),
                                  .gain_D = p.value(at_.ffn_norm).data,
                                  .dy_RD = dnormed,
                                  .dx_RD = dx_RD,
                                  .dgain_D = p.gradient(at_.ffn_norm).data,
                                  .eps = eps,
                                  .accumulate_dx = true,
                                  .narrow_dx_RD = scratch.narrow_room(R, D)});

  // Attention: middle = x + mixed Wo.
  const Activation mixed = kept.mixed_RHK.matrix(R, HK), dmixed = scratch.dmixed_RHK.matrix(R, HK),
                   dqkv = scratch.dqkv_RC.matrix(R, HK + 2 * GK);
  const Heads heads = attended(kept, R), raw = projected(kept.qkv_RC.matrix(R, HK + 2 * GK)), grads = projected(dqkv);
  const Operand dmiddle = scratch.narrow(dx_RD);
  pass.products.weight_gradient(dmiddle, mixed, {at_.output});
  pass.products.input_gradient(dmiddle, {at_.output}, dmixed);
  run.attention_grad(pass.stream, {.shape = attention_shape(pass),
                                   .q_NHK = heads.q_RHK,
                                   .k_SGK = heads.k_RGK,
                                   .v_SGK = heads.v_RGK,
                                   .out_NHK = mixed,
                                   .lse_NH = kept.lse_RH.matrix(R, split_.heads.room),
                                   .dout_NHK = dmixed,
                                   .dq_NHK = grads.q_RHK,
                                   .dk_SGK = grads.k_RGK,
                                   .dv_SGK = grads.v_RGK});
  for (const Activation& turning : {grads.q_RHK, grads.k_RGK})
    run.rope(pass.stream, {.x_NHK = turning,
                           .position_N = pass.position_R,
                           .cos_PJ = pass.cos_PJ,
                           .sin_PJ = pass.sin_PJ,
                           .head_width = K,
                           .inverse = true});
  if (model_.qk_norm) {
    run.rms_norm_grad(pass.stream, {.x_RD = raw.q_RHK,
                                    .gain_D = p.value(at_.q_norm).data,
                                    .dy_RD = grads.q_RHK,
                                    .dx_RD = grads.q_RHK,
                                    .dgain_D = p.gradient(at_.q_norm).data,
                                    .eps = eps,
                                    .parts = split_.heads.room});
    run.rms_norm_grad(pass.stream, {.x_RD = raw.k_RGK,
                                    .gain_D = p.value(at_.k_norm).data,
                                    .dy_RD = grads.k_RGK,
                                    .dx_RD = grads.k_RGK,
                                    .dgain_D = p.gradient(at_.k_norm).data,
                                    .eps = eps,
                                    .parts = split_.kv_heads.room});
  }
  if (model_.qkv_bias) {
    run.bias_grad(pass.stream, {grads.q_RHK, p.gradient(at_.q_bias).data});
    run.bias_grad(pass.stream, {grads.k_RGK, p.gradient(at_.k_bias).data});
    run.bias_grad(pass.stream, {grads.v_RGK, p.gradient(at_.v_bias).data});
  }
  pass.products.input_gradient(dqkv, {at_.q, at_.k, at_.v}, dnormed);
  pass.tensor.aside();
  pass.tensor.all_reduce_sum(span_of(dnormed));
  run.rms_norm(pass.stream, {x_RD, p.value(at_.attn_norm).data, normed, eps});
  pass.products.weight_gradient(dqkv, normed, {at_.q, at_.k, at_.v});
  pass.tensor.together();
  run.rms_norm_grad(pass.stream, {.x_RD = x_RD,
                                  .gain_D = p.value(at_.attn_norm).data,
                                  .dy_RD = dnormed,
                                  .dx_RD = dx_RD,
                                  .dgain_D = p.gradient(at_.attn_norm).data,
                                  .eps = eps,
                                  .accumulate_dx = true,
                                  .narrow_dx_RD = layer_ == 0 ? Matrix<Bf16>{} : scratch.narrow_room(R, D)});
}

}  // namespace slipway
