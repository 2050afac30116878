#include "src/model/block.hpp"

#include <cmath>

#include "src/core/profile.hpp"
#include "src/model/elements.hpp"

namespace slipway {
namespace {

// Standard deviation of a matrix's initial values: slightly below the one that preserves the variance of its input
// (docs/numerics.md).
float init_std_of(int inputs) { return 0.8f / std::sqrt(static_cast<float>(inputs)); }

template <class T>
std::span<T> span_of(Matrix<T> m) {
  return {m.data, static_cast<std::size_t>(m.size())};
}

/// The buffer of saved activations if it was allocated, else the scratch buffer that all blocks share.
ActivationBuffer& saved_or_scratch(ActivationBuffer& saved, ActivationBuffer& shared) {
  return saved.size() != 0 ? saved : shared;
}

float eps_of(const ModelDescription& model) { return static_cast<float>(model.norm_eps); }

}  // namespace

BlockActivations::BlockActivations(const ModelDescription& model, const TensorParallelShard& split, DType compute,
                                   int rows, int shard_rows, bool save_cheap_activations, MemorySpace& space) {
  const int D = model.width, HK = split.heads.padded_size * model.head_width,
            GK = split.kv_heads.padded_size * model.head_width, F = split.ffn.padded_size;
  const auto make_buffer = [&](int cols) { return ActivationBuffer(compute, elements(rows, cols), space); };
  qkv_RC = make_buffer(HK + 2 * GK), attention_out_RHK = make_buffer(HK), gate_up_RC = make_buffer(2 * F);
  if (model.qk_norm) rotated_qk_RC = make_buffer(HK + GK);
  lse_RH = Buffer<float>(elements(rows, split.heads.padded_size), space);
  post_attention_UD = Buffer<float>(elements(shard_rows, D), space);
  if (save_cheap_activations)
    attention_normed_RD = make_buffer(D), ffn_normed_RD = make_buffer(D), gated_RF = make_buffer(F);
}

BlockScratch::BlockScratch(const ModelDescription& model, const TensorParallelShard& split, DType compute, int rows,
                           bool trains, MemorySpace& space) {
  const int D = model.width, HK = split.heads.padded_size * model.head_width,
            GK = split.kv_heads.padded_size * model.head_width, F = split.ffn.padded_size;
  const auto make_buffer = [&](int cols) { return ActivationBuffer(compute, elements(rows, cols), space); };
  normed_RD = make_buffer(D), gated_RF = make_buffer(F);
  if (trains || split.size > 1) partial_RD = Buffer<float>(elements(rows, D), space);
  if (!trains) return;
  if (compute != DType::kF32) dx_bf16_RD = make_buffer(D);
  dqkv_RC = make_buffer(HK + 2 * GK), dattention_out_RHK = make_buffer(HK), dgated_RF = make_buffer(F),
  dgate_up_RC = make_buffer(2 * F);
  if (split.size > 1) discarded_dgain_D = Buffer<float>(static_cast<std::size_t>(D), space);
}

void normalize(const PassContext& pass, const Norm& norm, Matrix<const float> x_UD, const Activation& y_RD) {
  for (const SequenceParallel::Part& part : pass.rows.parts())
    pass.kernels.rms_norm(
        pass.stream, {part.local(x_UD), pass.parameters.value(norm.gain).data, part.local_in_global(y_RD), norm.eps});
}

void normalize_grad(const PassContext& pass, const Norm& norm, const NormGrad& op, BlockScratch& scratch) {
  float* dgain_D =
      pass.rows.contributes() ? pass.parameters.gradient(norm.gain).data : scratch.discarded_dgain_D.data();
  for (const SequenceParallel::Part& part : pass.rows.parts())
    pass.kernels.rms_norm_grad(pass.stream, {.x_RD = part.local(op.x_UD),
                                             .gain_D = pass.parameters.value(norm.gain).data,
                                             .dy_RD = part.local_in_global(op.dy_RD),
                                             .dx_RD = part.local_in_global(op.dx_RD),
                                             .dgain_D = dgain_D,
                                             .eps = norm.eps,
                                             .accumulate_dx = op.accumulate,
                                             .dx_bf16_RD = part.local_in_global(op.dx_bf16_RD)});
}

Block::Block(const ModelDescription& model, const TensorParallelShard& split, int layer, Parameters& parameters)
    : model_(model), split_(split), layer_(layer) {
  const std::string prefix = join("blk.", layer, ".");
  const int D = model.width, K = model.head_width;
  // The two matmuls that add to the residual stream have smaller initial weights in deeper models: it sums 2 * layers
  // of them.
  const float residual = 1.0f / std::sqrt(2.0f * static_cast<float>(model.layers));

  const auto norm = [&](const char* name, int width) {
    return parameters.add({.name = prefix + name,
                           .component = "norm",
                           .vector = true,
                           .rows = 1,
                           .cols = width,
                           .local_rows = 1,
                           .local_cols = width,
                           .init = Init::kOnes});
  };
  // A matrix whose rows are divided, `unit` rows to a head (or one to a feed-forward channel).
  const auto by_rows = [&](const char* name, const char* component, int rows, int inputs, ShardRange share, int unit,
                           bool whole) {
    return parameters.add({.name = prefix + name,
                           .component = component,
                           .rows = rows,
                           .cols = inputs,
                           .shard = whole ? ShardAxis::kReplicated : ShardAxis::kRows,
                           .first = share.first * unit,
                           .count = share.count * unit,
                           .local_rows = share.padded_size * unit,
                           .local_cols = inputs,
                           .group = kMatrices,
                           .init_std = init_std_of(inputs)});
  };
  const auto by_cols = [&](const char* name, const char* component, int inputs, ShardRange share, int unit) {
    return parameters.add({.name = prefix + name,
                           .component = component,
                           .rows = D,
                           .cols = inputs,
                           .shard = ShardAxis::kCols,
                           .first = share.first * unit,
                           .count = share.count * unit,
                           .local_rows = D,
                           .local_cols = share.padded_size * unit,
                           .group = kMatrices,
                           .init_std = residual * init_std_of(inputs)});
  };
  const auto bias = [&](const char* name, int width, ShardRange share, bool whole) {
    return parameters.add({.name = prefix + name,
                           .component = "attention",
                           .vector = true,
                           .rows = 1,
                           .cols = width,
                           .shard = whole ? ShardAxis::kReplicated : ShardAxis::kCols,
                           .first = share.first * K,
                           .count = share.count * K,
                           .local_rows = 1,
                           .local_cols = share.padded_size * K,
                           .init = Init::kZeros});
  };

  handles_.attn_norm = norm("attn_norm.weight", D);
  handles_.q = by_rows("attn_q.weight", "attention", model.heads * K, D, split.heads, K, false);
  handles_.k = by_rows("attn_k.weight", "attention", model.kv_heads * K, D, split.kv_heads, K, split.kv_replicated);
  handles_.v = by_rows("attn_v.weight", "attention", model.kv_heads * K, D, split.kv_heads, K, split.kv_replicated);
  if (model.qkv_bias) {
    handles_.q_bias = bias("attn_q.bias", model.heads * K, split.heads, false);
    handles_.k_bias = bias("attn_k.bias", model.kv_heads * K, split.kv_heads, split.kv_replicated);
    handles_.v_bias = bias("attn_v.bias", model.kv_heads * K, split.kv_heads, split.kv_replicated);
  }
  if (model.qk_norm) {
    handles_.q_norm = norm("attn_q_norm.weight", K);
    handles_.k_norm = norm("attn_k_norm.weight", K);
  }
  handles_.output = by_cols("attn_output.weight", "attention", model.heads * K, split.heads, K);
  handles_.ffn_norm = norm("ffn_norm.weight", D);
  handles_.gate = by_rows("ffn_gate.weight", "ffn", model.ffn, D, split.ffn, 1, false);
  handles_.up = by_rows("ffn_up.weight", "ffn", model.ffn, D, split.ffn, 1, false);
  handles_.down = by_cols("ffn_down.weight", "ffn", model.ffn, split.ffn, 1);
}

AttentionShape Block::attention_shape(const PassContext& pass) const {
  AttentionShape shape = pass.attention;
  shape.heads = split_.heads.padded_size;
  shape.kv_heads = split_.kv_heads.padded_size;
  shape.head_width = model_.head_width;
  shape.group = model_.heads / model_.kv_heads;
  shape.first_head = split_.kv_replicated ? split_.heads.first : 0;
  shape.scale = 1.0f / std::sqrt(static_cast<float>(model_.head_width));
  return shape;
}

Block::Heads Block::qkv_heads(Activation qkv_RC) const {
  const int HK = q_width(), GK = kv_width();
  return {qkv_RC.view_cols(0, HK), qkv_RC.view_cols(HK, GK), qkv_RC.view_cols(HK + GK, GK),
          qkv_RC.view_cols(0, HK + GK)};
}

Block::Heads Block::attention_inputs(BlockActivations& saved, int rows) const {
  const int HK = q_width(), GK = kv_width();
  Heads heads = qkv_heads(saved.qkv_RC.matrix(rows, HK + 2 * GK));
  if (!model_.qk_norm) return heads;
  const Activation rotated_qk_RC = saved.rotated_qk_RC.matrix(rows, HK + GK);
  heads.q_RHK = rotated_qk_RC.view_cols(0, HK), heads.k_RGK = rotated_qk_RC.view_cols(HK, GK);
  heads.qk_RC = rotated_qk_RC;
  return heads;
}

void Block::apply_rope(const PassContext& pass, const Heads& heads, bool inverse) const {
  pass.kernels.rope(pass.stream, {.x_NHK = heads.qk_RC,
                                  .position_N = pass.position_R,
                                  .cos_PJ = pass.cos_PJ,
                                  .sin_PJ = pass.sin_PJ,
                                  .head_width = model_.head_width,
                                  .inverse = inverse});
}

/// Attention over this pass's rows, or over the state's rows with this pass's appended.
void Block::attend(const PassContext& pass, BlockActivations& saved, int rows) const {
  AttentionShape shape = attention_shape(pass);
  const int HK = q_width(), GK = kv_width();
  const Heads heads = attention_inputs(saved, rows);
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
  const Activation attention_out = saved.attention_out_RHK.matrix(rows, HK);
  pass.kernels.attention(pass.stream, {.shape = shape,
                                       .q_NHK = heads.q_RHK,
                                       .k_SGK = k,
                                       .v_SGK = v,
                                       .out_NHK = attention_out,
                                       .lse_NH = saved.lse_RH.matrix(rows, shape.heads)});
  // Padded heads have zero queries but attend to real values. Their outputs are cleared here, so that neither the
  // weights before them nor those after them get a gradient from padding.
  const int real = split_.heads.count * shape.head_width;
  if (real < HK) pass.kernels.clear(pass.stream, {attention_out.view_cols(real, HK - real)});
}

void Block::project_and_add_residual(const PassContext& pass, Parameters::Handle map, const Operand& x_RI,
                                     BlockScratch& scratch, Matrix<const float> residual_UD, Matrix<float> y_UD) const {
  if (pass.tensor.size() == 1) return pass.linear.forward_residual(x_RI, map, residual_UD, y_UD);
  const Matrix<float> sums_RD = pass.rows.is_sharded() ? scratch.partial_RD.matrix(x_RI.rows, y_UD.cols) : y_UD;
  pass.rows.overlap_reduce_scatter(sums_RD, [&](const SequenceParallel::Part& part) {
    pass.linear.forward(part.global(x_RI), {map}, part.global(sums_RD));
  });
  for (const SequenceParallel::Part& part : pass.rows.parts())
    pass.kernels.add(pass.stream, {.x = span_of(part.local(residual_UD)),
                                   .y = span_of(part.local_in_global(sums_RD)),
                                   .sum = span_of(part.local(y_UD))});
}

void Block::forward(const PassContext& pass, Matrix<const float> x_UD, BlockActivations& saved, BlockScratch& scratch,
                    Matrix<float> y_UD) const {
  const profile::Scope scope("block forward", {}, layer_);
  const KernelTable& run = pass.kernels;
  Parameters& p = pass.parameters;
  const int R = pass.rows.global_rows(), U = pass.rows.local_rows(), D = model_.width, F = split_.ffn.padded_size;

  const Activation normed = saved_or_scratch(saved.attention_normed_RD, scratch.normed_RD).matrix(R, D),
                   qkv = saved.qkv_RC.matrix(R, q_width() + 2 * kv_width());
  normalize(pass, attention_norm(), x_UD, normed);
  pass.rows.overlap_all_gather(normed, [&](const SequenceParallel::Part& part) {
    pass.linear.forward(part.global(normed), {handles_.q, handles_.k, handles_.v}, part.global(qkv));
  });
  const Heads raw = qkv_heads(qkv), heads = attention_inputs(saved, R);
  if (model_.qkv_bias) {
    run.add_bias(pass.stream, {p.value(handles_.q_bias).data, raw.q_RHK});
    run.add_bias(pass.stream, {p.value(handles_.k_bias).data, raw.k_RGK});
    run.add_bias(pass.stream, {p.value(handles_.v_bias).data, raw.v_RGK});
  }
  if (model_.qk_norm) {
    const float eps = eps_of(model_);
    run.rms_norm(pass.stream,
                 {raw.q_RHK, p.value(handles_.q_norm).data, heads.q_RHK, eps, /*parts=*/split_.heads.padded_size});
    run.rms_norm(pass.stream,
                 {raw.k_RGK, p.value(handles_.k_norm).data, heads.k_RGK, eps, /*parts=*/split_.kv_heads.padded_size});
  }
  apply_rope(pass, heads, /*inverse=*/false);

  attend(pass, saved, R);

  const Matrix<float> post_attention = saved.post_attention_UD.matrix(U, D);
  project_and_add_residual(pass, handles_.output, saved.attention_out_RHK.matrix(R, q_width()), scratch, x_UD,
                           post_attention);

  const Activation gate_up = saved.gate_up_RC.matrix(R, 2 * F),
                   gated = saved_or_scratch(saved.gated_RF, scratch.gated_RF).matrix(R, F),
                   ffn_normed = saved_or_scratch(saved.ffn_normed_RD, scratch.normed_RD).matrix(R, D);
  normalize(pass, ffn_norm(), post_attention, ffn_normed);
  pass.rows.overlap_all_gather(ffn_normed, [&](const SequenceParallel::Part& part) {
    pass.linear.forward(part.global(ffn_normed), {handles_.gate, handles_.up}, part.global(gate_up));
  });
  run.swiglu(pass.stream, {gate_up.view_cols(0, F), gate_up.view_cols(F, F), gated});
  project_and_add_residual(pass, handles_.down, gated, scratch, post_attention, y_UD);
}

/// Gradients of `x W^T` where x is a norm's output: of W, and of x, summed over ranks, in the local rows of
/// `scratch.partial_RD`. All-gathering recomputed rows and reduce-scattering dx overlap with the two matmuls.
void Block::normed_linear_grad(const PassContext& pass, const Norm& norm, Matrix<const float> x_UD, Maps maps,
                               const Operand& dy_RC, ActivationBuffer& saved_normed_RD, BlockScratch& scratch) const {
  const int R = pass.rows.global_rows(), D = model_.width;
  const bool recompute_normed = saved_normed_RD.size() == 0;
  const Activation normed = saved_or_scratch(saved_normed_RD, scratch.normed_RD).matrix(R, D);
  const Matrix<float> dnormed = scratch.partial_RD.matrix(R, D);
  if (recompute_normed) normalize(pass, norm, x_UD, normed);
  pass.rows.overlap(
      [&] {
        if (recompute_normed) pass.rows.all_gather(normed);
      },
      [&] { pass.linear.input_gradient(dy_RC, maps, dnormed); });
  pass.rows.overlap([&] { pass.rows.reduce_scatter(dnormed); },
                    [&] { pass.linear.weight_gradient(dy_RC, normed, maps); });
}

void Block::backward(const PassContext& pass, Matrix<const float> x_UD, BlockActivations& saved, BlockScratch& scratch,
                     Matrix<float> dx_RD) const {
  const profile::Scope scope("block backward", {}, layer_);
  const KernelTable& run = pass.kernels;
  Parameters& p = pass.parameters;
  const int R = pass.rows.global_rows(), U = pass.rows.local_rows(), D = model_.width, F = split_.ffn.padded_size;
  const int HK = q_width(), GK = kv_width();
  const Matrix<float> post_attention = saved.post_attention_UD.matrix(U, D), dnormed = scratch.partial_RD.matrix(R, D);
  const Activation dy = scratch.dx_operand(dx_RD);  // of y; after the feed-forward half, of post_attention

  // Feed-forward: y = post_attention + gated Wd.
  const Activation gated = saved_or_scratch(saved.gated_RF, scratch.gated_RF).matrix(R, F),
                   gate_up = saved.gate_up_RC.matrix(R, 2 * F), dgate_up = scratch.dgate_up_RC.matrix(R, 2 * F),
                   dgated = scratch.dgated_RF.matrix(R, F);
  pass.rows.overlap_all_gather(dy, [&](const SequenceParallel::Part& part) {
    pass.linear.input_gradient(part.global(dy), {handles_.down}, part.global(dgated));
  });
  run.swiglu_grad(pass.stream, {.gate_RF = gate_up.view_cols(0, F),
                                .up_RF = gate_up.view_cols(F, F),
                                .dy_RF = dgated,
                                .dgate_RF = dgate_up.view_cols(0, F),
                                .dup_RF = dgate_up.view_cols(F, F),
                                .y_RF = saved.gated_RF.size() != 0 ? Activation() : gated});
  pass.linear.weight_gradient(dy, gated, {handles_.down});
  normed_linear_grad(pass, ffn_norm(), post_attention, {handles_.gate, handles_.up}, dgate_up, saved.ffn_normed_RD,
                     scratch);
  normalize_grad(pass, ffn_norm(), {post_attention, dnormed, dx_RD, scratch.dx_bf16_buffer(R, D), /*accumulate=*/true},
                 scratch);

  // Attention: post_attention = x + attention_out Wo.
  const Activation attention_out = saved.attention_out_RHK.matrix(R, HK),
                   dattention_out = scratch.dattention_out_RHK.matrix(R, HK),
                   dqkv = scratch.dqkv_RC.matrix(R, HK + 2 * GK);
  const Heads heads = attention_inputs(saved, R), raw = qkv_heads(saved.qkv_RC.matrix(R, HK + 2 * GK)),
              grads = qkv_heads(dqkv);
  pass.rows.overlap_all_gather(dy, [&](const SequenceParallel::Part& part) {
    pass.linear.input_gradient(part.global(dy), {handles_.output}, part.global(dattention_out));
  });
  pass.linear.weight_gradient(dy, attention_out, {handles_.output});
  run.attention_grad(pass.stream, {.shape = attention_shape(pass),
                                   .q_NHK = heads.q_RHK,
                                   .k_SGK = heads.k_RGK,
                                   .v_SGK = heads.v_RGK,
                                   .out_NHK = attention_out,
                                   .lse_NH = saved.lse_RH.matrix(R, split_.heads.padded_size),
                                   .dout_NHK = dattention_out,
                                   .dq_NHK = grads.q_RHK,
                                   .dk_SGK = grads.k_RGK,
                                   .dv_SGK = grads.v_RGK});
  apply_rope(pass, grads, /*inverse=*/true);
  if (model_.qk_norm) {
    const float eps = eps_of(model_);
    run.rms_norm_grad(pass.stream, {.x_RD = raw.q_RHK,
                                    .gain_D = p.value(handles_.q_norm).data,
                                    .dy_RD = grads.q_RHK,
                                    .dx_RD = grads.q_RHK,
                                    .dgain_D = p.gradient(handles_.q_norm).data,
                                    .eps = eps,
                                    .parts = split_.heads.padded_size});
    run.rms_norm_grad(pass.stream, {.x_RD = raw.k_RGK,
                                    .gain_D = p.value(handles_.k_norm).data,
                                    .dy_RD = grads.k_RGK,
                                    .dx_RD = grads.k_RGK,
                                    .dgain_D = p.gradient(handles_.k_norm).data,
                                    .eps = eps,
                                    .parts = split_.kv_heads.padded_size});
  }
  if (model_.qkv_bias) {
    run.bias_grad(pass.stream, {grads.q_RHK, p.gradient(handles_.q_bias).data});
    run.bias_grad(pass.stream, {grads.k_RGK, p.gradient(handles_.k_bias).data});
    run.bias_grad(pass.stream, {grads.v_RGK, p.gradient(handles_.v_bias).data});
  }
  normed_linear_grad(pass, attention_norm(), x_UD, {handles_.q, handles_.k, handles_.v}, dqkv,
                     saved.attention_normed_RD, scratch);
  normalize_grad(
      pass, attention_norm(),
      {x_UD, dnormed, dx_RD, layer_ == 0 ? Matrix<Bf16>{} : scratch.dx_bf16_buffer(R, D), /*accumulate=*/true},
      scratch);
}

}  // namespace slipway
