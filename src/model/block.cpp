#include "src/model/block.hpp"

#include <cmath>

#include "src/core/profile.hpp"
#include "src/model/elements.hpp"

namespace slipway {
namespace {

// Deviation of a matrix's first values: somewhat below what keeps the variance of its input (docs/numerics.md).
float deviation_of(int inputs) { return 0.8f / std::sqrt(static_cast<float>(inputs)); }

template <class T>
std::span<T> span_of(Matrix<T> m) {
  return {m.data, static_cast<std::size_t>(m.size())};
}

/// What is kept, or else the room that all blocks share.
ActivationBuffer& kept_or(ActivationBuffer& kept, ActivationBuffer& shared) { return kept.size() != 0 ? kept : shared; }

float eps_of(const ModelDescription& model) { return static_cast<float>(model.norm_eps); }

}  // namespace

BlockActivations::BlockActivations(const ModelDescription& model, const TensorSplit& split, DType compute, int rows,
                                   int own_rows, bool keeps_cheap, MemorySpace& space) {
  const int D = model.width, HK = split.heads.room * model.head_width, GK = split.kv_heads.room * model.head_width,
            F = split.ffn.room;
  const auto room = [&](int cols) { return ActivationBuffer(compute, elements(rows, cols), space); };
  qkv_RC = room(HK + 2 * GK), mixed_RHK = room(HK), gate_up_RC = room(2 * F);
  if (model.qk_norm) turned_RC = room(HK + GK);
  lse_RH = Buffer<float>(elements(rows, split.heads.room), space);
  middle_UD = Buffer<float>(elements(own_rows, D), space);
  if (keeps_cheap) attention_normed_RD = room(D), ffn_normed_RD = room(D), gated_RF = room(F);
}

BlockScratch::BlockScratch(const ModelDescription& model, const TensorSplit& split, DType compute, int rows,
                           bool trains, MemorySpace& space) {
  const int D = model.width, HK = split.heads.room * model.head_width, GK = split.kv_heads.room * model.head_width,
            F = split.ffn.room;
  const auto room = [&](int cols) { return ActivationBuffer(compute, elements(rows, cols), space); };
  normed_RD = room(D), gated_RF = room(F);
  if (trains || split.size > 1) partial_RD = Buffer<float>(elements(rows, D), space);
  if (!trains) return;
  if (compute != DType::kF32) narrow_dx_RD = room(D);
  dqkv_RC = room(HK + 2 * GK), dmixed_RHK = room(HK), dgated_RF = room(F), dgate_up_RC = room(2 * F);
  if (split.size > 1) uncounted_D = Buffer<float>(static_cast<std::size_t>(D), space);
}

void normalize(const Pass& pass, const Norm& norm, Matrix<const float> x_UD, const Activation& y_RD) {
  for (const DividedRows::Part& part : pass.rows.parts())
    pass.kernels.rms_norm(pass.stream,
                          {part.own(x_UD), pass.parameters.value(norm.gain).data, part.own_among_all(y_RD), norm.eps});
}

void normalize_grad(const Pass& pass, const Norm& norm, const NormGrad& op, BlockScratch& scratch) {
  float* dgain_D = pass.rows.counts() ? pass.parameters.gradient(norm.gain).data : scratch.uncounted_D.data();
  for (const DividedRows::Part& part : pass.rows.parts())
    pass.kernels.rms_norm_grad(pass.stream, {.x_RD = part.own(op.x_UD),
                                             .gain_D = pass.parameters.value(norm.gain).data,
                                             .dy_RD = part.own_among_all(op.dy_RD),
                                             .dx_RD = part.own_among_all(op.dx_RD),
                                             .dgain_D = dgain_D,
                                             .eps = norm.eps,
                                             .accumulate_dx = op.accumulate,
                                             .narrow_dx_RD = part.own_among_all(op.narrow_dx_RD)});
}

Block::Block(const ModelDescription& model, const TensorSplit& split, int layer, Parameters& parameters)
    : model_(model), split_(split), layer_(layer) {
  const std::string prefix = join("blk.", layer, ".");
  const int D = model.width, K = model.head_width;
  // The two products that write to the residual stream shrink with depth: 2 * layers of them add up in it.
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
                           .init = Init::kZeros});
  };

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
    at_.q_norm = norm("attn_q_norm.weight", K);
    at_.k_norm = norm("attn_k_norm.weight", K);
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
  return {qkv_RC.view_cols(0, HK), qkv_RC.view_cols(HK, GK), qkv_RC.view_cols(HK + GK, GK),
          qkv_RC.view_cols(0, HK + GK)};
}

Block::Heads Block::attended(BlockActivations& kept, int rows) const {
  const int HK = q_width(), GK = kv_width();
  Heads heads = projected(kept.qkv_RC.matrix(rows, HK + 2 * GK));
  if (!model_.qk_norm) return heads;
  const Activation turned_RC = kept.turned_RC.matrix(rows, HK + GK);
  heads.q_RHK = turned_RC.view_cols(0, HK), heads.k_RGK = turned_RC.view_cols(HK, GK);
  heads.qk_RC = turned_RC;
  return heads;
}

void Block::turn(const Pass& pass, const Heads& heads, bool inverse) const {
  pass.kernels.rope(pass.stream, {.x_NHK = heads.qk_RC,
                                  .position_N = pass.position_R,
                                  .cos_PJ = pass.cos_PJ,
                                  .sin_PJ = pass.sin_PJ,
                                  .head_width = model_.head_width,
                                  .inverse = inverse});
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

void Block::add_to_stream(const Pass& pass, Parameters::Handle map, const Operand& x_RI, BlockScratch& scratch,
                          Matrix<const float> residual_UD, Matrix<float> y_UD) const {
  if (pass.tensor.size() == 1) return pass.products.forward_added(x_RI, map, residual_UD, y_UD);
  const Matrix<float> sums_RD = pass.rows.divided() ? scratch.partial_RD.matrix(x_RI.rows, y_UD.cols) : y_UD;
  pass.rows.summed(
      sums_RD, [&](const DividedRows::Part& part) { pass.products.forward(part.all(x_RI), {map}, part.all(sums_RD)); });
  for (const DividedRows::Part& part : pass.rows.parts())
    pass.kernels.add(pass.stream, {.x = span_of(part.own(residual_UD)),
                                   .y = span_of(part.own_among_all(sums_RD)),
                                   .sum = span_of(part.own(y_UD))});
}

void Block::forward(const Pass& pass, Matrix<const float> x_UD, BlockActivations& kept, BlockScratch& scratch,
                    Matrix<float> y_UD) const {
  const profile::Scope scope("block forward", {}, layer_);
  const KernelTable& run = pass.kernels;
  Parameters& p = pass.parameters;
  const int R = pass.rows.all(), U = pass.rows.own(), D = model_.width, F = split_.ffn.room;

  const Activation normed = kept_or(kept.attention_normed_RD, scratch.normed_RD).matrix(R, D),
                   qkv = kept.qkv_RC.matrix(R, q_width() + 2 * kv_width());
  normalize(pass, attention_norm(), x_UD, normed);
  pass.rows.gathered(normed, [&](const DividedRows::Part& part) {
    pass.products.forward(part.all(normed), {at_.q, at_.k, at_.v}, part.all(qkv));
  });
  const Heads raw = projected(qkv), heads = attended(kept, R);
  if (model_.qkv_bias) {
    run.add_bias(pass.stream, {p.value(at_.q_bias).data, raw.q_RHK});
    run.add_bias(pass.stream, {p.value(at_.k_bias).data, raw.k_RGK});
    run.add_bias(pass.stream, {p.value(at_.v_bias).data, raw.v_RGK});
  }
  if (model_.qk_norm) {
    const float eps = eps_of(model_);
    run.rms_norm(pass.stream, {raw.q_RHK, p.value(at_.q_norm).data, heads.q_RHK, eps, /*parts=*/split_.heads.room});
    run.rms_norm(pass.stream, {raw.k_RGK, p.value(at_.k_norm).data, heads.k_RGK, eps, /*parts=*/split_.kv_heads.room});
  }
  turn(pass, heads, /*inverse=*/false);

  attend(pass, kept, R);

  const Matrix<float> middle = kept.middle_UD.matrix(U, D);
  add_to_stream(pass, at_.output, kept.mixed_RHK.matrix(R, q_width()), scratch, x_UD, middle);

  const Activation gate_up = kept.gate_up_RC.matrix(R, 2 * F),
                   gated = kept_or(kept.gated_RF, scratch.gated_RF).matrix(R, F),
                   ffn_normed = kept_or(kept.ffn_normed_RD, scratch.normed_RD).matrix(R, D);
  normalize(pass, ffn_norm(), middle, ffn_normed);
  pass.rows.gathered(ffn_normed, [&](const DividedRows::Part& part) {
    pass.products.forward(part.all(ffn_normed), {at_.gate, at_.up}, part.all(gate_up));
  });
  run.swiglu(pass.stream, {gate_up.view_cols(0, F), gate_up.view_cols(F, F), gated});
  add_to_stream(pass, at_.down, gated, scratch, middle, y_UD);
}

/// Gradients of `x W^T` with x a norm's output: of x, summed over ranks, into `scratch.partial_RD`'s own rows, and of
/// W. Rows that are made again, and sums, travel beside the two products.
void Block::normed_product_grad(const Pass& pass, const Norm& norm, Matrix<const float> x_UD, Maps maps,
                                const Operand& dy_RC, ActivationBuffer& kept_normed_RD, BlockScratch& scratch) const {
  const int R = pass.rows.all(), D = model_.width;
  const bool again = kept_normed_RD.size() == 0;
  const Activation normed = kept_or(kept_normed_RD, scratch.normed_RD).matrix(R, D);
  const Matrix<float> dnormed = scratch.partial_RD.matrix(R, D);
  if (again) normalize(pass, norm, x_UD, normed);
  pass.rows.beside(
      [&] {
        if (again) pass.rows.gather(normed);
      },
      [&] { pass.products.input_gradient(dy_RC, maps, dnormed); });
  pass.rows.beside([&] { pass.rows.sum(dnormed); }, [&] { pass.products.weight_gradient(dy_RC, normed, maps); });
}

void Block::backward(const Pass& pass, Matrix<const float> x_UD, BlockActivations& kept, BlockScratch& scratch,
                     Matrix<float> dx_RD) const {
  const profile::Scope scope("block backward", {}, layer_);
  const KernelTable& run = pass.kernels;
  Parameters& p = pass.parameters;
  const int R = pass.rows.all(), U = pass.rows.own(), D = model_.width, F = split_.ffn.room;
  const int HK = q_width(), GK = kv_width();
  const Matrix<float> middle = kept.middle_UD.matrix(U, D), dnormed = scratch.partial_RD.matrix(R, D);
  const Activation dy = scratch.narrow(dx_RD);  // of the block's output, and after the first half of its middle

  // Feed-forward: y = middle + gated Wd.
  const Activation gated = kept_or(kept.gated_RF, scratch.gated_RF).matrix(R, F),
                   gate_up = kept.gate_up_RC.matrix(R, 2 * F), dgate_up = scratch.dgate_up_RC.matrix(R, 2 * F),
                   dgated = scratch.dgated_RF.matrix(R, F);
  pass.rows.gathered(dy, [&](const DividedRows::Part& part) {
    pass.products.input_gradient(part.all(dy), {at_.down}, part.all(dgated));
  });
  run.swiglu_grad(pass.stream, {.gate_RF = gate_up.view_cols(0, F),
                                .up_RF = gate_up.view_cols(F, F),
                                .dy_RF = dgated,
                                .dgate_RF = dgate_up.view_cols(0, F),
                                .dup_RF = dgate_up.view_cols(F, F),
                                .y_RF = kept.gated_RF.size() != 0 ? Activation() : gated});
  pass.products.weight_gradient(dy, gated, {at_.down});
  normed_product_grad(pass, ffn_norm(), middle, {at_.gate, at_.up}, dgate_up, kept.ffn_normed_RD, scratch);
  normalize_grad(pass, ffn_norm(), {middle, dnormed, dx_RD, scratch.narrow_room(R, D), /*accumulate=*/true}, scratch);

  // Attention: middle = x + mixed Wo.
  const Activation mixed = kept.mixed_RHK.matrix(R, HK), dmixed = scratch.dmixed_RHK.matrix(R, HK),
                   dqkv = scratch.dqkv_RC.matrix(R, HK + 2 * GK);
  const Heads heads = attended(kept, R), raw = projected(kept.qkv_RC.matrix(R, HK + 2 * GK)), grads = projected(dqkv);
  pass.rows.gathered(dy, [&](const DividedRows::Part& part) {
    pass.products.input_gradient(part.all(dy), {at_.output}, part.all(dmixed));
  });
  pass.products.weight_gradient(dy, mixed, {at_.output});
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
  turn(pass, grads, /*inverse=*/true);
  if (model_.qk_norm) {
    const float eps = eps_of(model_);
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
  normed_product_grad(pass, attention_norm(), x_UD, {at_.q, at_.k, at_.v}, dqkv, kept.attention_normed_RD, scratch);
  normalize_grad(pass, attention_norm(),
                 {x_UD, dnormed, dx_RD, layer_ == 0 ? Matrix<Bf16>{} : scratch.narrow_room(R, D), /*accumulate=*/true},
                 scratch);
}

}  // namespace slipway
