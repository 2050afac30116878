#include "src/model/layers/feed_forward.hpp"

#include "src/model/elements.hpp"

namespace slipway {
namespace {

// Names of scratch buffers.
constexpr std::string_view kActivated = "activated", kDactivated = "dactivated", kDhidden = "dhidden";

}  // namespace

/// 2 F or F elements of the compute type per row; with `save_cheap` F more.
struct FeedForwardLayer::Saved : LayerActivations {
  TensorBuffer hidden_RC;     ///< gate and up in one matrix, C = 2 F; or up alone
  TensorBuffer activated_RF;  ///< empty where it is recomputed
};

FeedForwardLayer::FeedForwardLayer(const ModelSpec& model, FeedForwardKind kind, const TensorParallelShard& shard,
                                   int layer, Parameters& parameters, const LoraOptions& lora)
    : kind_(kind), width_(shard.ffn.padded_size) {
  ParameterBuilder builder(parameters, join("blk.", layer, "."), "ffn");
  const ShardedAxis channels{shard.ffn};
  if (is_gated()) gate_.weight = builder.column_parallel("ffn_gate.weight", channels, model.width);
  up_.weight = builder.column_parallel("ffn_up.weight", channels, model.width);
  if (model.ffn_bias) up_.bias = builder.bias("ffn_up.bias", channels);
  down_.weight = builder.row_parallel("ffn_down.weight", model.width, channels, residual_init_scale(model.layers));
  if (model.ffn_bias) down_.bias = builder.bias("ffn_down.bias", model.width);
  if (is_gated()) builder.add_lora(gate_, lora);
  for (Linear* linear : {&up_, &down_}) builder.add_lora(*linear, lora);
}

std::unique_ptr<LayerActivations> FeedForwardLayer::make_activations(const ActivationSizes& sizes) const {
  auto saved = std::make_unique<Saved>();
  saved->hidden_RC = TensorBuffer(sizes.compute_dtype, elements(sizes.rows, input_width()), *sizes.space);
  if (sizes.save_cheap)
    saved->activated_RF = TensorBuffer(sizes.compute_dtype, elements(sizes.rows, width_), *sizes.space);
  return saved;
}

void FeedForwardLayer::reserve_scratch(Scratch& scratch, const ActivationSizes& sizes) const {
  scratch.reserve(kActivated, sizes.compute_dtype, elements(sizes.rows, width_));
  reserve_lora(scratch, sizes.compute_dtype, sizes.rows, {gate_, up_}, input_width());
  reserve_lora(scratch, sizes.compute_dtype, sizes.rows, {down_}, width_);
  if (!sizes.training) return;
  scratch.reserve(kDactivated, sizes.compute_dtype, elements(sizes.rows, width_));
  scratch.reserve(kDhidden, sizes.compute_dtype, elements(sizes.rows, input_width()));
}

/// The buffer of the activation function's output: saved, or scratch memory.
TensorView FeedForwardLayer::activated(const PassContext& pass, Saved& saved) const {
  const int R = pass.rows.global_rows();
  return saved.activated_RF.size() != 0 ? saved.activated_RF.matrix(R, width_)
                                        : pass.scratch.matrix(kActivated, R, width_);
}

void FeedForwardLayer::forward(const PassContext& pass, const NormedRows& input, LayerActivations& activations,
                               LayerState*, const Residual& residual) const {
  auto& saved = static_cast<Saved&>(activations);
  const TensorView hidden = saved.hidden_RC.matrix(pass.rows.global_rows(), input_width()),
                   output = activated(pass, saved);
  if (is_gated()) {
    project(pass, {gate_, up_}, input, hidden);
    pass.backend.swiglu(pass.stream, {hidden.view_cols(0, width_), hidden.view_cols(width_, width_), output});
  } else {
    project(pass, {up_}, input, hidden);
    pass.backend.gelu(pass.stream, {hidden, output});
  }
  project_to_residual(pass, down_, output, residual);
}

/// Recomputes the forward pass's output into `recomputed`, unless that view is empty.
void FeedForwardLayer::activate_grad(const PassContext& pass, const TensorView& hidden, const TensorView& dactivated,
                                     const TensorView& dhidden, const TensorView& recomputed) const {
  if (!is_gated()) return pass.backend.gelu_grad(pass.stream, {hidden, dactivated, dhidden, recomputed});
  pass.backend.swiglu_grad(pass.stream, {.gate_RF = hidden.view_cols(0, width_),
                                         .up_RF = hidden.view_cols(width_, width_),
                                         .dy_RF = dactivated,
                                         .dgate_RF = dhidden.view_cols(0, width_),
                                         .dup_RF = dhidden.view_cols(width_, width_),
                                         .y_RF = recomputed});
}

Matrix<float> FeedForwardLayer::backward(const PassContext& pass, const ResidualGrad& dy, const NormedRows& input,
                                         LayerActivations& activations) const {
  auto& saved = static_cast<Saved&>(activations);
  const int R = pass.rows.global_rows();
  const TensorView hidden = saved.hidden_RC.matrix(R, input_width()), output = activated(pass, saved),
                   dactivated = pass.scratch.matrix(kDactivated, R, width_),
                   dhidden = pass.scratch.matrix(kDhidden, R, input_width());
  project_to_residual_input_grad(pass, down_, dy.operand_RD, dactivated);
  activate_grad(pass, hidden, dactivated, dhidden, saved.activated_RF.size() != 0 ? TensorView() : output);
  project_to_residual_weight_grad(pass, down_, dy.operand_RD, dy.f32_RD, output);
  if (is_gated()) return project_grad(pass, {gate_, up_}, dhidden, input);
  return project_grad(pass, {up_}, dhidden, input);
}

}  // namespace slipway
