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
      tensor_(tensor.on(backend)),
      options_(options),
      shard_(TensorParallelShard::of(spec, tensor.rank(), tensor.size())),
      layers_(spec, shard_, parameters_, options.low_rank),
      loss_head_(shard_, VocabTiles::in(backend.memory->is_host())),
      graph_cache_(options.record ? backend.graph_capture : nullptr) {
  if (options.frozen) parameters_.freeze(options.frozen);
  parameters_.allocate(options.slots, options.compute_dtype, options.stored, space());
  const auto sizes = parameters_.component_sizes();
  for (const char* declared : {"embedding", "ffn", "norm", spec.tied ? "embedding" : "head"}) {
    require(std::ranges::any_of(sizes, [&](const auto& one) { return one.first == declared && one.second > 0; }),
            join("Model: the component ", declared, " is declared and has no parameter"));
  }
}

void Model::prepare(int rows, Purpose purpose) {
  const bool for_training = purpose == Purpose::kTrain;
  const int own = SequenceParallel(tensor_, rows).local_rows(), D = spec_.width;
  if (rows <= work_.rows && own <= work_.shard_rows && (work_.for_training || !for_training)) return;
  const AllocationTag taken(MemoryKind::kActivations, "the activations of", rows, "tokens");
  const int layers = spec_.layers;
  work_ = {};
  work_.rows = rows, work_.shard_rows = own;
  work_.for_training = for_training;
  for (int i = 0; i < (for_training ? layers + 1 : 2); ++i) work_.inputs.emplace_back(elements(own, D), space());
  const ActivationSizes sizes{.compute_dtype = options_.compute_dtype,
                              .rows = rows,
                              .local_rows = own,
                              .training = for_training,
                              .save_cheap = for_training && options_.recompute == Recompute::kNone,
                              .space = &space()};
  work_.scratch = std::make_unique<Scratch>(space());
  for (const Block& block : layers_.blocks) {
    const auto same = std::ranges::find(layers_.blocks, block.kind(), &Block::kind);  // the first of its kind
    const std::size_t first = static_cast<std::size_t>(same - layers_.blocks.begin());
    const bool shares = (!for_training || recompute_blocks()) && first < work_.activations.size();
    work_.activations.push_back(shares ? work_.activations[first]
                                       : std::make_shared<BlockActivations>(block.make_activations(sizes)));
    block.reserve_scratch(*work_.scratch, sizes);
  }
  work_.hidden = TensorBuffer(options_.compute_dtype, elements(rows, D), space());
  if (!for_training) return;
  parameters_.enable_gradients();
  work_.dx = Buffer<float>(elements(rows, D), space());
  work_.dhidden = Buffer<float>(elements(rows, D), space());
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
  const AllocationTag taken(MemoryKind::kBatch, "a batch of", batch.size(), "tokens");
  scaled_weights_.resize(batch.weights.size());
  std::ranges::transform(batch.weights, scaled_weights_.begin(), [=](float weight) { return loss_scale * weight; });
  device_batch_ = {.sequences = batch.sequences,
                   .tokens = batch.tokens,
                   .rows = batch.size(),
                   .ids = ids_.of(batch.ids, space()),
                   .positions = positions_.of(batch.positions, space()),
                   .first_key = first_key_.of(batch.first_key, space()),
                   .targets = targets_.of(batch.targets, space()),
                   .document_starts = document_starts_.of(batch.document_starts, space()),
                   .weights = weights_.of(batch.weights, space()),
                   .scaled_weights = scaled_weights_upload_.of(scaled_weights_, space())};
  row_nats_.reserve(static_cast<std::size_t>(batch.size()), space());
}

PassContext Model::training_pass() {
  PassContext pass = pass_of(device_batch_.sequences, device_batch_.tokens, device_batch_.positions);
  pass.attention.first_key_BT = device_batch_.first_key;
  pass.document_start_R = device_batch_.document_starts;
  return pass;
}

LossRows Model::loss_rows() {
  return {.hidden_RD = work_.hidden.matrix(device_batch_.rows, spec_.width),
          .target_R = device_batch_.targets,
          .weight_R = device_batch_.weights,
          .scaled_weight_R = device_batch_.scaled_weights,
          .nats_R = row_nats_.data()};
}

void Model::sum_nats(double* nats) {
  backend_.weighted_sum(stream_, {row_nats_.data(), device_batch_.weights, device_batch_.rows, nats});
}

/// Runs `ops`, as a captured CUDA graph where the backend has graphs. Batches of one shape differ only in values, which
/// are stored at the same addresses, so that one graph serves all of them.
template <class Ops>
void Model::run_captured(Purpose purpose, bool back, const Ops& ops) {
  if (tensor_.size() > 1 && !tensor_.is_async()) return ops();
  const auto address = [](const void* place) {
    return static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(place));
  };
  graph_cache_.run(
      {static_cast<std::uint64_t>(purpose), back ? 1u : 0u, static_cast<std::uint64_t>(device_batch_.sequences),
       static_cast<std::uint64_t>(device_batch_.tokens), address(parameters_.gradients().data())},
      ops);
}

PassContext Model::pass_of(int sequences, int tokens, const int* positions) {
  const int half = spec_.head_width / 2;
  return {.backend = backend_,
          .stream = stream_,
          .linear = LinearOps(backend_, stream_, parameters_, *work_.scratch),
          .parameters = parameters_,
          .tensor = tensor_,
          .rows = SequenceParallel(tensor_, sequences * tokens),
          .scratch = *work_.scratch,
          .cos_PJ = cos_.matrix(rope_positions_, half),
          .sin_PJ = sin_.matrix(rope_positions_, half),
          .attention = {.sequences = sequences, .queries = tokens, .keys = tokens},
          .position_R = positions};
}

Matrix<float> Model::input(int layer, int rows) {
  return work_.inputs[static_cast<std::size_t>(layer) % work_.inputs.size()].matrix(rows, spec_.width);
}

void Model::embed(const PassContext& pass, const int* device_ids) {
  const SequenceParallel& rows = pass.rows;
  const Matrix<float> x = input(0, rows.local_rows()), sums = rows.is_sharded() ? partial_sums(pass, spec_.width) : x;
  backend_.embedding(stream_, {parameters_.value(layers_.embedding).view_rows(0, shard_.vocabulary.count), device_ids,
                               shard_.vocabulary.first, sums});
  rows.reduce_scatter(sums);
  if (rows.is_sharded())
    for (const SequenceParallel::Part& part : rows.parts())
      backend_.copy(stream_, {part.local_in_global(sums), part.local(x)});
  add_positions(pass, x);
}

/// Adds learned positions, where the model has them. Shapes: x [U, D], the local rows.
void Model::add_positions(const PassContext& pass, Matrix<float> x_UD) {
  if (layers_.positions < 0) return;
  for (const SequenceParallel::Part& part : pass.rows.parts())
    backend_.embedding(stream_, {.table_VD = parameters_.value(layers_.positions),
                                 .id_N = pass.position_R + part.at,
                                 .y_ND = part.local(x_UD),
                                 .accumulate = true});
}

/// The gradient of learned positions, from the local rows of the embedding's gradient.
void Model::positions_grad(const PassContext& pass, Matrix<const float> dx_RD) {
  if (layers_.positions < 0 || !parameters_.at(layers_.positions).trainable || !pass.rows.contributes()) return;
  for (const SequenceParallel::Part& part : pass.rows.parts())
    backend_.embedding_grad(stream_, {.dy_ND = part.local_in_global(dx_RD),
                                      .id_N = pass.position_R + part.at,
                                      .dtable_VD = parameters_.gradient(layers_.positions)});
}

void Model::embed_quantized(const PassContext& pass, std::span<const int> ids) {
  const Matrix<float> x = input(0, static_cast<int>(ids.size()));
  for (std::size_t r = 0; r < ids.size(); ++r)
    backend_.dequantize(stream_,
                        {parameters_.quantized(layers_.embedding, ids[r], 1), x.view_rows(static_cast<int>(r), 1)});
  add_positions(pass, x);
}

/// Runs the blocks and the last norm on the embedded rows. On return `work_.hidden` has all rows.
void Model::run_blocks(const PassContext& pass) {
  const int U = pass.rows.local_rows();
  for (int layer = 0; layer < spec_.layers; ++layer)
    block(layer).forward(pass, input(layer, U), saved(layer), input(layer + 1, U));
  const TensorView hidden = work_.hidden.matrix(pass.rows.global_rows(), spec_.width);
  normalize(pass, layers_.final_norm, input(spec_.layers, U), hidden);
  pass.rows.all_gather(hidden);
}

std::uint64_t Model::matmul_weight_bytes() const {
  std::uint64_t bytes = 0;
  const std::span<const Parameter> all = parameters_.all();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto handle = static_cast<Parameters::Handle>(i);
    const bool looked_up_only =
        handle == layers_.positions || (handle == layers_.embedding && layers_.embedding != layers_.head);
    if (all[i].vector || looked_up_only) continue;
    bytes += all[i].quantized ? QuantizedRows::bytes(all[i].local_size())
                              : all[i].local_size() * bytes_of(parameters_.compute_dtype());
  }
  return bytes;
}

void Model::forward(const Batch& batch, float loss_scale, double* nats) {
  prepare(batch.size(), Purpose::kTrain);
  extend_rope(batch.tokens);
  upload(batch, loss_scale);
  run_captured(Purpose::kTrain, /*back=*/false, [this] {
    const PassContext pass = training_pass();
    embed(pass, device_batch_.ids);
    run_blocks(pass);
    loss_head_.loss_and_gradient(pass, layers_.head, loss_rows(),
                                 work_.dhidden.matrix(device_batch_.rows, spec_.width));
  });
  sum_nats(nats);
  forward_done_ = true;
}

void Model::backward() {
  require(std::exchange(forward_done_, false), "Model::backward: no forward() before it");
  run_captured(Purpose::kTrain, /*back=*/true, [this] { run_backward(training_pass()); });
}

void Model::run_backward(const PassContext& pass) {
  const int R = device_batch_.rows, U = pass.rows.local_rows(), D = spec_.width;
  const Matrix<float> dx = work_.dx.matrix(R, D);
  normalize_grad(pass, layers_.final_norm,
                 {input(spec_.layers, U), work_.dhidden.matrix(R, D), dx, residual_grad_bf16(pass, D)});
  for (int layer = spec_.layers - 1; layer >= 0; --layer) {
    // Only one set of activations is saved: it still holds the last block's, and the others are recomputed.
    if (recompute_blocks() && layer != spec_.layers - 1)
      block(layer).forward(pass, input(layer, U), saved(layer), work_.dhidden.matrix(U, D));
    block(layer).backward(pass, input(layer, U), saved(layer), dx);
  }
  positions_grad(pass, dx);
  if (!parameters_.at(layers_.embedding).trainable) return;
  pass.rows.all_gather(dx);
  backend_.embedding_grad(stream_, {dx, device_batch_.ids, shard_.vocabulary.first,
                                    parameters_.gradient(layers_.embedding).view_rows(0, shard_.vocabulary.count)});
}

void Model::loss(const Batch& batch, double* nats) {
  prepare(batch.size(), Purpose::kInfer);
  extend_rope(batch.tokens);
  upload(batch, 1.0f);
  run_captured(Purpose::kInfer, /*back=*/false, [this] {
    const PassContext pass = training_pass();
    embed(pass, device_batch_.ids);
    run_blocks(pass);
    loss_head_.loss(pass, layers_.head, loss_rows());
  });
  sum_nats(nats);
  forward_done_ = false;
}

ModelState Model::make_state(int sequences, int capacity) const {
  if (spec_.learned_positions && capacity > spec_.context)
    throw Error(Fault::kConfig, join("the model has learned positions for ", spec_.context, " tokens, but ", capacity,
                                     " are asked for; ask for fewer, or take a model with RoPE"));
  std::vector<BlockState> states;
  for (const Block& block : layers_.blocks)
    states.push_back(block.make_state(sequences, capacity, options_.compute_dtype, space()));
  return {std::move(states), {spec_, tensor_.rank(), tensor_.size()}, sequences, capacity, space()};
}

void Model::infer(std::span<const int> ids, ModelState& state, Matrix<float> logits_RV, bool last_only) {
  const int R = static_cast<int>(ids.size()), B = state.sequences(), D = spec_.width;
  require(B > 0 && R % B == 0 && R > 0, "Model::infer: ids are not equally many for every sequence");
  require(logits_RV.contiguous(), "Model::infer: the logits must be contiguous");
  const int T = R / B;
  require(state.length() + T <= state.capacity(), "Model::infer: the state has no room for these tokens");
  prepare(R, Purpose::kInfer);
  extend_rope(state.capacity());
  std::vector<int> positions(static_cast<std::size_t>(R));
  for (int r = 0; r < R; ++r) positions[static_cast<std::size_t>(r)] = state.length() + r % T;
  PassContext pass = pass_of(B, T, positions_.of(positions, space()));
  pass.state = &state;
  if (parameters_.at(layers_.embedding).quantized) embed_quantized(pass, ids);
  else embed(pass, ids_.of(ids, space()));
  run_blocks(pass);
  state.advance(T);
  ConstTensorView read = work_.hidden.matrix(R, D);
  if (last_only) {  // a view of every T-th row: the head is read once for all sequences
    read = read.view_rows(T - 1, 1);
    read.rows = B, read.stride *= T;
  }
  loss_head_.logits(pass, layers_.head, read, logits_RV);
}

}  // namespace slipway
