#include "src/model/layers/block.hpp"

#include <utility>

#include "src/core/profile.hpp"
#include "src/model/elements.hpp"
#include "src/model/layers/attention.hpp"
#include "src/model/layers/feed_forward.hpp"

namespace slipway {
namespace {

// Names of scratch buffers.
constexpr std::string_view kNormed = "normed", kDxBf16 = "dx_bf16";

std::unique_ptr<Layer> make_mixer(MixerKind kind, const ModelSpec& model, const TensorParallelShard& shard, int layer,
                                  Parameters& parameters, const LoraOptions& lora) {
  switch (kind) {
    case MixerKind::kAttention: return std::make_unique<AttentionLayer>(model, shard, layer, parameters, lora);
  }
  throw Error(Fault::kBug, "Block: a mixer without a layer");
}

}  // namespace

Norm declare_norm(const ModelSpec& model, const std::string& name, Parameters& parameters) {
  ParameterBuilder builder(parameters, name, "norm");
  Norm norm{.eps = static_cast<float>(model.norm_eps)};
  norm.gain = builder.gain(".weight", model.width);
  if (model.layer_norm) norm.bias = builder.norm_bias(".bias", model.width);
  return norm;
}

Matrix<Bf16> residual_grad_bf16(const PassContext& pass, int width) {
  if (!pass.scratch.has(kDxBf16)) return {};
  return pass.scratch.matrix(kDxBf16, pass.rows.global_rows(), width).as<Bf16>();
}

Block::Block(const ModelSpec& model, BlockKind kind, const TensorParallelShard& shard, int layer,
             Parameters& parameters, const LoraOptions& lora)
    : kind_(kind),
      layer_(layer),
      width_(model.width),
      tensor_parallel_size_(shard.size),
      mixer_norm_(declare_norm(model, join("blk.", layer, ".attn_norm"), parameters)),
      mixer_(make_mixer(kind.mixer, model, shard, layer, parameters, lora)),
      ffn_norm_(declare_norm(model, join("blk.", layer, ".ffn_norm"), parameters)),
      feed_forward_(std::make_unique<FeedForwardLayer>(model, kind.feed_forward, shard, layer, parameters, lora)) {}

BlockActivations Block::make_activations(const ActivationSizes& sizes) const {
  BlockActivations saved{mixer_->make_activations(sizes), feed_forward_->make_activations(sizes)};
  saved.mixed_UD = Buffer<float>(elements(sizes.local_rows, width_), *sizes.space);
  if (!sizes.save_cheap) return saved;
  for (TensorBuffer* normed : {&saved.mixer_normed_RD, &saved.ffn_normed_RD})
    *normed = TensorBuffer(sizes.compute_dtype, elements(sizes.rows, width_), *sizes.space);
  return saved;
}

void Block::reserve_scratch(Scratch& scratch, const ActivationSizes& sizes) const {
  scratch.reserve(kNormed, sizes.compute_dtype, elements(sizes.rows, width_));
  if (sizes.training && sizes.compute_dtype != DType::kF32)
    scratch.reserve(kDxBf16, sizes.compute_dtype, elements(sizes.rows, width_));
  reserve_projections(scratch, sizes.rows, width_, tensor_parallel_size_, sizes.training);
  if (sizes.training) reserve_vector_gradients(scratch, width_);
  mixer_->reserve_scratch(scratch, sizes);
  feed_forward_->reserve_scratch(scratch, sizes);
}

BlockState Block::make_state(int sequences, int capacity, DType compute_dtype, MemorySpace& space) const {
  return {mixer_->make_state(sequences, capacity, compute_dtype, space),
          feed_forward_->make_state(sequences, capacity, compute_dtype, space)};
}

NormedRows Block::make_normed_rows(const PassContext& pass, const Norm& norm, Matrix<const float> x_UD,
                                   TensorBuffer& saved_normed_RD) const {
  const bool saved = saved_normed_RD.size() != 0;
  const int R = pass.rows.global_rows();
  return {norm, x_UD, saved ? saved_normed_RD.matrix(R, width_) : pass.scratch.matrix(kNormed, R, width_), saved};
}

void Block::forward(const PassContext& pass, Matrix<const float> x_UD, BlockActivations& saved,
                    Matrix<float> y_UD) const {
  const profile::Scope scope("block forward", {}, layer_);
  static const BlockState kNoState;
  const BlockState& state = pass.state != nullptr ? pass.state->block(layer_) : kNoState;
  const Matrix<float> mixed = saved.mixed_UD.matrix(pass.rows.local_rows(), width_);

  const NormedRows mixer_input = make_normed_rows(pass, mixer_norm_, x_UD, saved.mixer_normed_RD);
  normalize(pass, mixer_norm_, x_UD, mixer_input.normed_RD);
  mixer_->forward(pass, mixer_input, *saved.mixer, state.mixer.get(), {x_UD, mixed});

  const NormedRows ffn_input = make_normed_rows(pass, ffn_norm_, mixed, saved.ffn_normed_RD);
  normalize(pass, ffn_norm_, mixed, ffn_input.normed_RD);
  feed_forward_->forward(pass, ffn_input, *saved.feed_forward, state.feed_forward.get(), {mixed, y_UD});
}

void Block::backward(const PassContext& pass, Matrix<const float> x_UD, BlockActivations& saved,
                     Matrix<float> dx_RD) const {
  const profile::Scope scope("block backward", {}, layer_);
  const Matrix<float> mixed = saved.mixed_UD.matrix(pass.rows.local_rows(), width_);
  const Matrix<Bf16> dx_bf16 = residual_grad_bf16(pass, width_);
  const ResidualGrad dy{dx_bf16.data == nullptr ? TensorView(dx_RD) : TensorView(dx_bf16), dx_RD};

  const Matrix<float> dffn_normed = feed_forward_->backward(
      pass, dy, make_normed_rows(pass, ffn_norm_, mixed, saved.ffn_normed_RD), *saved.feed_forward);
  normalize_grad(pass, ffn_norm_, {mixed, dffn_normed, dx_RD, dx_bf16, /*accumulate=*/true});

  const Matrix<float> dmixer_normed =
      mixer_->backward(pass, dy, make_normed_rows(pass, mixer_norm_, x_UD, saved.mixer_normed_RD), *saved.mixer);
  const Matrix<Bf16> no_copy;  // nothing reads the bf16 copy of block 0's dx
  normalize_grad(pass, mixer_norm_, {x_UD, dmixer_normed, dx_RD, layer_ == 0 ? no_copy : dx_bf16, /*accumulate=*/true});
}

}  // namespace slipway
