#include "src/model/model.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "src/core/allocation_tag.hpp"
#include "src/model/elements.hpp"

namespace slipway {
Model::Model(const ModelSpec& spec, const Backend& backend, Group& tensor, const ModelOptions& options)
    : spec_(spec),
      backend_(backend),
      tensor_(tensor.for_backend(backend)),
      options_(options),
      shard_(TensorParallelShard::of(spec, tensor.rank(), tensor.size())),
      layers_(spec, shard_, parameters_, options.lora),
      loss_head_(shard_, VocabTiles::for_device(backend.memory->is_host())),
      graph_cache_(options.use_cuda_graphs ? backend.graph_capture : nullptr) {
  if (options.frozen) parameters_.freeze(options.frozen);
  parameters_.allocate(options.slots, options.compute_dtype, options.quantized_source, space());
  const auto sizes = parameters_.component_sizes();
  for (const char* declared : {"embedding", "ffn", "norm", spec.tied ? "embedding" : "head"}) {
    require(std::ranges::any_of(
                sizes, [&](const auto& component) { return component.first == declared && component.second > 0; }),
            join("Model: the component ", declared, " is declared and has no parameter"));
  }
}

void Model::reserve_workspace(int rows, Purpose purpose) {
  const bool for_training = purpose == Purpose::kTrain;
  const int local_rows_count = SequenceParallel(tensor_, rows).local_rows(), D = spec_.width;
  if (rows <= workspace_.rows && local_rows_count <= workspace_.shard_rows &&
      (workspace_.for_training || !for_training))
    return;
  const AllocationTag tag(MemoryKind::kActivations, "the activations of", rows, "tokens");
  const int layers = spec_.layers;
  workspace_ = {};
  workspace_.rows = rows, workspace_.shard_rows = local_rows_count;
  workspace_.for_training = for_training;
  for (int i = 0; i < (for_training ? layers + 1 : 2); ++i)
    workspace_.inputs.emplace_back(elements(local_rows_count, D), space());
  const ActivationSizes sizes{.compute_dtype = options_.compute_dtype,
                              .rows = rows,
                              .local_rows = local_rows_count,
                              .training = for_training,
                              .save_cheap = for_training && options_.recompute == Recompute::kNone,
                              .space = &space()};
  workspace_.scratch = std::make_unique<Scratch>(space());
  for (const Block& block : layers_.blocks) {
    const auto same_kind = std::ranges::find(layers_.blocks, block.kind(), &Block::kind);  // the first of its kind
    const std::size_t first_of_kind = static_cast<std::size_t>(same_kind - layers_.blocks.begin());
    const bool share_buffers = (!for_training || recompute_blocks()) && first_of_kind < workspace_.activations.size();
    workspace_.activations.push_back(share_buffers ? workspace_.activations[first_of_kind]
                                                   : std::make_shared<BlockActivations>(block.make_activations(sizes)));
    block.reserve_scratch(*workspace_.scratch, sizes);
  }
  workspace_.hidden = TensorBuffer(options_.compute_dtype, elements(rows, D), space());
  if (!for_training) return;
  parameters_.enable_gradients();
  workspace_.dx = Buffer<float>(elements(rows, D), space());
  workspace_.dhidden = Buffer<float>(elements(rows, D), space());
}

void Model::extend_rope(int positions) {
  if (positions <= rope_positions_ || spec_.learned_positions) return;
  const AllocationTag tag(MemoryKind::kActivations, "the rotary embedding of", positions, "positions");
  const int half = spec_.head_width / 2;
  Buffer<float> cos(elements(positions, half)), sin(elements(positions, half));
  rope_table(cos.matrix(positions, half), sin.matrix(positions, half), spec_.head_width, spec_.rope_base,
             spec_.rope_freq_factors());
  cos_ = to_device(space(), std::move(cos));
  sin_ = to_device(space(), std::move(sin));
  rope_positions_ = positions;
}

void Model::upload(const Batch& batch, float loss_scale) {
  const AllocationTag tag(MemoryKind::kBatch, "a batch of", batch.size(), "tokens");
  scaled_weights_.resize(batch.weights.size());
  std::ranges::transform(batch.weights, scaled_weights_.begin(), [=](float weight) { return loss_scale * weight; });
  device_batch_ = {.sequences = batch.sequences,
                   .tokens_per_sequence = batch.tokens_per_sequence,
                   .rows = batch.size(),
                   .ids = ids_.upload(batch.ids, space()),
                   .positions = positions_.upload(batch.positions, space()),
                   .key_start = key_start_.upload(batch.key_start, space()),
                   .targets = targets_.upload(batch.targets, space()),
                   .document_starts = document_starts_.upload(batch.document_starts, space()),
                   .weights = weights_.upload(batch.weights, space()),
                   .scaled_weights = scaled_weights_upload_.upload(scaled_weights_, space())};
  token_losses_.reserve(static_cast<std::size_t>(batch.size()), space());
}

PassContext Model::make_training_context() {
  PassContext pass =
      make_pass_context(device_batch_.sequences, device_batch_.tokens_per_sequence, device_batch_.positions);
  pass.attention.key_start_BT = device_batch_.key_start;
  pass.document_start_R = device_batch_.document_starts;
  return pass;
}

LossRows Model::loss_rows() {
  return {.hidden_RD = workspace_.hidden.matrix(device_batch_.rows, spec_.width),
          .target_R = device_batch_.targets,
          .weight_R = device_batch_.weights,
          .scaled_weight_R = device_batch_.scaled_weights,
          .loss_R = token_losses_.data()};
}

void Model::sum_losses(double* loss_sum) {
  backend_.weighted_sum(stream_, {token_losses_.data(), device_batch_.weights, device_batch_.rows, loss_sum});
}

/// Runs `ops`, as a captured CUDA graph where the backend has graphs. Batches of one shape differ only in values, which
/// are stored at the same addresses, so that one graph serves all of them.
template <class Ops>
void Model::run_captured(Purpose purpose, bool is_backward, const Ops& ops) {
  if (tensor_.size() > 1 && !tensor_.is_async()) return ops();
  const auto address = [](const void* pointer) {
    return static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(pointer));
  };
  graph_cache_.run(
      {static_cast<std::uint64_t>(purpose), is_backward ? 1u : 0u, static_cast<std::uint64_t>(device_batch_.sequences),
       static_cast<std::uint64_t>(device_batch_.tokens_per_sequence), address(parameters_.gradients().data())},
      ops);
}

PassContext Model::make_pass_context(int sequences, int tokens_per_sequence, const int* positions) {
  const int half = spec_.head_width / 2;
  return {.backend = backend_,
          .stream = stream_,
          .linear = LinearOps(backend_, stream_, parameters_, *workspace_.scratch),
          .parameters = parameters_,
          .tensor = tensor_,
          .rows = SequenceParallel(tensor_, sequences * tokens_per_sequence),
          .scratch = *workspace_.scratch,
          .cos_PJ = cos_.matrix(rope_positions_, half),
          .sin_PJ = sin_.matrix(rope_positions_, half),
          .attention = {.sequences = sequences, .queries = tokens_per_sequence, .keys = tokens_per_sequence},
          .position_R = positions};
}

Matrix<float> Model::block_input(int layer, int rows) {
  return workspace_.inputs[static_cast<std::size_t>(layer) % workspace_.inputs.size()].matrix(rows, spec_.width);
}

void Model::embed(const PassContext& pass, const int* device_ids) {
  const SequenceParallel& rows = pass.rows;
  const Matrix<float> x = block_input(0, rows.local_rows()),
                      sums = rows.is_sharded() ? partial_sums(pass, spec_.width) : x;
  backend_.embedding(stream_, {parameters_.value(layers_.embedding).view_rows(0, shard_.vocabulary.count), device_ids,
                               shard_.vocabulary.first, sums});
  rows.reduce_scatter(sums);
  if (rows.is_sharded())
    for (const SequenceParallel::Part& part : rows.parts())
      backend_.copy(stream_, {part.local_in_global(sums), part.local(x)});
  add_position_embeddings(pass, x);
}

/// Adds learned positions, where the model has them. Shapes: x [U, D], the local rows.
void Model::add_position_embeddings(const PassContext& pass, Matrix<float> x_UD) {
  if (layers_.positions < 0) return;
  for (const SequenceParallel::Part& part : pass.rows.parts())
    backend_.embedding(stream_, {.table_VD = parameters_.value(layers_.positions),
                                 .id_N = pass.position_R + part.shard_first,
                                 .y_ND = part.local(x_UD),
                                 .accumulate = true});
}

/// The gradient of learned positions, from the local rows of the embedding's gradient.
void Model::position_embedding_grad(const PassContext& pass, Matrix<const float> dx_RD) {
  if (layers_.positions < 0 || !parameters_.at(layers_.positions).trainable || !pass.rows.contributes()) return;
  for (const SequenceParallel::Part& part : pass.rows.parts())
    backend_.embedding_grad(stream_, {.dy_ND = part.local_in_global(dx_RD),
                                      .id_N = pass.position_R + part.shard_first,
                                      .dtable_VD = parameters_.gradient(layers_.positions)});
}

void Model::embed_quantized(const PassContext& pass, std::span<const int> ids) {
  const Matrix<float> x = block_input(0, static_cast<int>(ids.size()));
  for (std::size_t r = 0; r < ids.size(); ++r)
    backend_.dequantize(stream_,
                        {parameters_.quantized(layers_.embedding, ids[r], 1), x.view_rows(static_cast<int>(r), 1)});
  add_position_embeddings(pass, x);
}

/// Runs the blocks and the last norm on the embedded rows. On return `workspace_.hidden` has all rows.
void Model::run_blocks(const PassContext& pass) {
  const int U = pass.rows.local_rows();
  for (int layer = 0; layer < spec_.layers; ++layer)
    block(layer).forward(pass, block_input(layer, U), activations_of(layer), block_input(layer + 1, U));
  const TensorView hidden = workspace_.hidden.matrix(pass.rows.global_rows(), spec_.width);
  normalize(pass, layers_.final_norm, block_input(spec_.layers, U), hidden);
  pass.rows.all_gather(hidden);
}

std::uint64_t Model::matmul_weight_bytes() const {
  std::uint64_t bytes = 0;
  const std::span<const Parameter> parameters = parameters_.all();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const auto handle = static_cast<Parameters::Handle>(i);
    const bool is_lookup_only =
        handle == layers_.positions || (handle == layers_.embedding && layers_.embedding != layers_.head);
    if (parameters[i].vector || is_lookup_only) continue;
    bytes += parameters[i].quantized ? QuantizedRows::bytes(parameters[i].local_size())
                                     : parameters[i].local_size() * bytes_of(parameters_.compute_dtype());
  }
  return bytes;
}

void Model::forward(const Batch& batch, float loss_scale, double* loss_sum) {
  reserve_workspace(batch.size(), Purpose::kTrain);
  extend_rope(batch.tokens_per_sequence);
  upload(batch, loss_scale);
  run_captured(Purpose::kTrain, /*is_backward=*/false, [this] {
    const PassContext pass = make_training_context();
    embed(pass, device_batch_.ids);
    run_blocks(pass);
    loss_head_.loss_and_gradient(pass, layers_.head, loss_rows(),
                                 workspace_.dhidden.matrix(device_batch_.rows, spec_.width));
  });
  sum_losses(loss_sum);
  forward_done_ = true;
}

void Model::backward() {
  require(std::exchange(forward_done_, false), "Model::backward: no forward() before it");
  run_captured(Purpose::kTrain, /*is_backward=*/true, [this] { run_backward(make_training_context()); });
}

void Model::run_backward(const PassContext& pass) {
  const int R = device_batch_.rows, U = pass.rows.local_rows(), D = spec_.width;
  const Matrix<float> dx = workspace_.dx.matrix(R, D);
  normalize_grad(pass, layers_.final_norm,
                 {block_input(spec_.layers, U), workspace_.dhidden.matrix(R, D), dx, residual_grad_bf16(pass, D)});
  for (int layer = spec_.layers - 1; layer >= 0; --layer) {
    // Only one set of activations is saved: it still holds the last block's, and the others are recomputed.
    if (recompute_blocks() && layer != spec_.layers - 1)
      block(layer).forward(pass, block_input(layer, U), activations_of(layer), workspace_.dhidden.matrix(U, D));
    block(layer).backward(pass, block_input(layer, U), activations_of(layer), dx);
  }
  position_embedding_grad(pass, dx);
  if (!parameters_.at(layers_.embedding).trainable) return;
  pass.rows.all_gather(dx);
  backend_.embedding_grad(stream_, {dx, device_batch_.ids, shard_.vocabulary.first,
                                    parameters_.gradient(layers_.embedding).view_rows(0, shard_.vocabulary.count)});
}

void Model::loss(const Batch& batch, double* loss_sum) {
  reserve_workspace(batch.size(), Purpose::kInfer);
  extend_rope(batch.tokens_per_sequence);
  upload(batch, 1.0f);
  run_captured(Purpose::kInfer, /*is_backward=*/false, [this] {
    const PassContext pass = make_training_context();
    embed(pass, device_batch_.ids);
    run_blocks(pass);
    loss_head_.loss(pass, layers_.head, loss_rows());
  });
  sum_losses(loss_sum);
  forward_done_ = false;
}

InferenceState Model::make_state(int sequences, int capacity) const {
  if (spec_.learned_positions && capacity > spec_.context)
    throw Error(Fault::kConfig, join("the model has learned positions for ", spec_.context, " tokens, but ", capacity,
                                     " are asked for; ask for fewer, or take a model with RoPE"));
  std::vector<BlockState> states;
  for (const Block& block : layers_.blocks)
    states.push_back(block.make_state(sequences, capacity, options_.compute_dtype, space()));
  return {std::move(states), {spec_, tensor_.rank(), tensor_.size()}, sequences, capacity, space()};
}

void Model::infer(std::span<const int> ids, InferenceState& state, Matrix<float> logits_RV, bool last_only) {
  const int R = static_cast<int>(ids.size()), B = state.sequences(), D = spec_.width;
  require(B > 0 && R % B == 0 && R > 0, "Model::infer: ids are not equally many for every sequence");
  require(logits_RV.contiguous(), "Model::infer: the logits must be contiguous");
  const int T = R / B;
  require(state.length() + T <= state.capacity(), "Model::infer: the state has no room for these tokens");
  reserve_workspace(R, Purpose::kInfer);
  extend_rope(state.capacity());
  std::vector<int> positions(static_cast<std::size_t>(R));
  for (int r = 0; r < R; ++r) positions[static_cast<std::size_t>(r)] = state.length() + r % T;
  PassContext pass = make_pass_context(B, T, positions_.upload(positions, space()));
  pass.state = &state;
  if (parameters_.at(layers_.embedding).quantized) embed_quantized(pass, ids);
  else embed(pass, ids_.upload(ids, space()));
  run_blocks(pass);
  state.advance(T);
  ConstTensorView head_input = workspace_.hidden.matrix(R, D);
  if (last_only) {  // a view of every T-th row: the head is read once for all sequences
    head_input = head_input.view_rows(T - 1, 1);
    head_input.rows = B, head_input.stride *= T;
  }
  loss_head_.logits(pass, layers_.head, head_input, logits_RV);
}

}  // namespace slipway
