#include "src/model/model.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "src/core/taken_for.hpp"
#include "src/model/elements.hpp"

namespace slipway {
namespace {

/// Deviation of the embedding's first values: the largest round one whose first loss stays within 0.5 nats of ln V, as
/// a tied head sees each token's own row again. GPT-2's 0.02 made narrow models learn a third slower
/// (docs/numerics.md).
float embedding_deviation(int width) { return 0.8f / std::sqrt(static_cast<float>(width)); }

Parameter table(const std::string& name, const std::string& component, const ModelDescription& model,
                const TensorSplit& split) {
  return {.name = name,
          .component = component,
          .rows = model.vocabulary,
          .cols = model.width,
          .shard = ShardAxis::kRows,
          .first = split.vocabulary.first,
          .count = split.vocabulary.count,
          .local_rows = split.vocabulary.room,
          .local_cols = model.width,
          .group = kMatrices,
          .deviation = embedding_deviation(model.width)};
}

}  // namespace

Model::Model(const ModelDescription& description, const KernelTable& kernels, Group& tensor,
             const ModelOptions& options)
    : description_(description),
      kernels_(kernels),
      tensor_(tensor.in(kernels)),
      options_(options),
      split_(TensorSplit::of(description, tensor.rank(), tensor.size())),
      products_(kernels, stream_, parameters_),
      loss_head_(split_, HeadTiles::in(kernels.memory->is_host())),
      recordings_(options.record ? kernels.recorder : nullptr) {
  const ModelDescription& model = description_;
  Parameter embedding = table("token_embd.weight", "embedding", model, split_);
  embedding.read_in_f32 = true;
  embedding_ = parameters_.add(std::move(embedding));
  for (int layer = 0; layer < model.layers; ++layer) blocks_.emplace_back(model, split_, layer, parameters_);
  final_norm_ = parameters_.add({.name = "output_norm.weight",
                                 .component = "norm",
                                 .vector = true,
                                 .rows = 1,
                                 .cols = model.width,
                                 .local_rows = 1,
                                 .local_cols = model.width,
                                 .init = Init::kOnes});
  head_ = model.tied ? embedding_ : parameters_.add(table("output.weight", "head", model, split_));
  parameters_.seal(options.slots, options.compute, options.stored, space());
  const auto sizes = parameters_.component_sizes();
  for (const char* declared : {"embedding", "attention", "ffn", "norm", model.tied ? "embedding" : "head"}) {
    require(std::ranges::any_of(sizes, [&](const auto& one) { return one.first == declared && one.second > 0; }),
            join("Model: the component ", declared, " is declared and has no parameter"));
  }
}

void Model::prepare(int rows, Purpose purpose) {
  const bool keeps_all = purpose == Purpose::kTrain;
  const int own = DividedRows(tensor_, rows).own(), D = description_.width;
  if (rows <= work_.rows && own <= work_.own_rows && (work_.keeps_all || !keeps_all)) return;
  const TakenFor taken("the activations of", rows, "tokens");
  const int layers = description_.layers;
  work_ = {};
  work_.rows = rows, work_.own_rows = own;
  work_.keeps_all = keeps_all;
  for (int i = 0; i < (keeps_all ? layers + 1 : 2); ++i) work_.inputs.emplace_back(elements(own, D), space());
  for (int i = 0; i < (keeps_all && !blocks_again() ? layers : 1); ++i)
    work_.activations.emplace_back(description_, split_, options_.compute, rows, own,
                                   keeps_all && options_.recompute == Recompute::kNone, space());
  work_.hidden = ActivationBuffer(options_.compute, elements(rows, D), space());
  work_.scratch = std::make_unique<BlockScratch>(description_, split_, options_.compute, rows, keeps_all, space());
  if (!keeps_all) return;
  parameters_.enable_gradients();
  work_.dx = Buffer<float>(elements(rows, D), space());
  work_.dhidden = Buffer<float>(elements(rows, D), space());
}

void Model::extend_rope(int positions) {
  if (positions <= rope_positions_) return;
  const int half = description_.head_width / 2;
  Buffer<float> cos(elements(positions, half)), sin(elements(positions, half));
  rope_table(cos.matrix(positions, half), sin.matrix(positions, half), description_.head_width, description_.rope_base);
  cos_ = moved_to(space(), std::move(cos));
  sin_ = moved_to(space(), std::move(sin));
  rope_positions_ = positions;
}

void Model::upload(const Batch& batch, float loss_scale) {
  const TakenFor taken("a batch of", batch.size(), "tokens");
  shares_.resize(batch.weights.size());
  std::ranges::transform(batch.weights, shares_.begin(), [=](float weight) { return loss_scale * weight; });
  there_ = {.sequences = batch.sequences,
            .tokens = batch.tokens,
            .rows = batch.size(),
            .ids = ids_.of(batch.ids, space()),
            .positions = positions_.of(batch.positions, space()),
            .first_key = first_key_.of(batch.first_key, space()),
            .targets = targets_.of(batch.targets, space()),
            .weights = weights_.of(batch.weights, space()),
            .shares = shares_there_.of(shares_, space())};
  row_nats_.fit(static_cast<std::size_t>(batch.size()), space());
}

Pass Model::training_pass() {
  return pass_of(there_.sequences, there_.tokens, there_.positions, there_.first_key, nullptr);
}

LossRows Model::loss_rows() {
  return {.hidden_RD = work_.hidden.matrix(there_.rows, description_.width),
          .target_R = there_.targets,
          .weight_R = there_.weights,
          .share_R = there_.shares,
          .nats_R = row_nats_.data()};
}

void Model::sum_nats(double* nats) {
  kernels_.weighted_sum(stream_, {row_nats_.data(), there_.weights, there_.rows, nats});
}

/// Batches of one shape differ in their numbers alone, which lie where those before them lay.
template <class Ops>
void Model::recorded(Purpose purpose, bool back, const Ops& ops) {
  if (tensor_.size() > 1 && !tensor_.only_queues()) return ops();
  const auto address = [](const void* place) {
    return static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(place));
  };
  recordings_.run({static_cast<std::uint64_t>(purpose), back ? 1u : 0u, static_cast<std::uint64_t>(there_.sequences),
                   static_cast<std::uint64_t>(there_.tokens), address(parameters_.gradients().data())},
                  ops);
}

Pass Model::pass_of(int sequences, int tokens, const int* positions, const int* first_key, ModelState* state) {
  const int half = description_.head_width / 2;
  return {.kernels = kernels_,
          .stream = stream_,
          .products = products_,
          .parameters = parameters_,
          .tensor = tensor_,
          .rows = DividedRows(tensor_, sequences * tokens),
          .cos_PJ = cos_.matrix(rope_positions_, half),
          .sin_PJ = sin_.matrix(rope_positions_, half),
          .attention = {.sequences = sequences, .queries = tokens, .keys = tokens, .first_key_BT = first_key},
          .position_R = positions,
          .state = state};
}

Matrix<float> Model::input(int layer, int rows) {
  return work_.inputs[static_cast<std::size_t>(layer) % work_.inputs.size()].matrix(rows, description_.width);
}

BlockActivations& Model::kept(int layer) {
  return work_.activations[static_cast<std::size_t>(layer) % work_.activations.size()];
}

void Model::embed(const Pass& pass, const int* ids_there) {
  const DividedRows& rows = pass.rows;
  const Matrix<float> x = input(0, rows.own()),
                      sums = rows.divided() ? work_.scratch->partial_RD.matrix(rows.all(), description_.width) : x;
  kernels_.embedding(stream_, {parameters_.value(embedding_).view_rows(0, split_.vocabulary.count), ids_there,
                               split_.vocabulary.first, sums});
  rows.sum(sums);
  if (!rows.divided()) return;
  for (const DividedRows::Part& part : rows.parts()) kernels_.copy(stream_, {part.own_among_all(sums), part.own(x)});
}

void Model::embed_quantized(std::span<const int> ids) {
  const Matrix<float> x = input(0, static_cast<int>(ids.size()));
  for (std::size_t r = 0; r < ids.size(); ++r)
    kernels_.dequantize(stream_, {parameters_.quantized(embedding_, ids[r], 1), x.view_rows(static_cast<int>(r), 1)});
}

/// Blocks and the last norm, from the embedded rows: leaves `work_.hidden`, all rows of it.
void Model::run_blocks(const Pass& pass) {
  const int U = pass.rows.own();
  for (int layer = 0; layer < description_.layers; ++layer)
    blocks_[static_cast<std::size_t>(layer)].forward(pass, input(layer, U), kept(layer), *work_.scratch,
                                                     input(layer + 1, U));
  const Activation hidden = work_.hidden.matrix(pass.rows.all(), description_.width);
  normalize(pass, final_norm(), input(description_.layers, U), hidden);
  pass.rows.gather(hidden);
}

std::uint64_t Model::product_weight_bytes() const {
  std::uint64_t bytes = 0;
  const std::span<const Parameter> all = parameters_.all();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const bool looked_up_only = static_cast<Parameters::Handle>(i) == embedding_ && embedding_ != head_;
    if (all[i].vector || looked_up_only) continue;
    bytes += all[i].quantized ? QuantizedRows::bytes(all[i].local_size())
                              : all[i].local_size() * bytes_of(parameters_.compute());
  }
  return bytes;
}

void Model::forward(const Batch& batch, float loss_scale, double* nats) {
  prepare(batch.size(), Purpose::kTrain);
  extend_rope(batch.tokens);
  upload(batch, loss_scale);
  recorded(Purpose::kTrain, /*back=*/false, [this] {
    const Pass pass = training_pass();
    embed(pass, there_.ids);
    run_blocks(pass);
    loss_head_.loss_and_gradient(pass, head_, loss_rows(), work_.dhidden.matrix(there_.rows, description_.width));
  });
  sum_nats(nats);
  forward_done_ = true;
}

void Model::backward() {
  require(std::exchange(forward_done_, false), "Model::backward: no forward() before it");
  recorded(Purpose::kTrain, /*back=*/true, [this] { run_backward(training_pass()); });
}

void Model::run_backward(const Pass& pass) {
  const int R = there_.rows, U = pass.rows.own(), D = description_.width;
  const Matrix<float> dx = work_.dx.matrix(R, D);
  normalize_grad(pass, final_norm(),
                 {input(description_.layers, U), work_.dhidden.matrix(R, D), dx, work_.scratch->narrow_room(R, D)},
                 *work_.scratch);
  for (int layer = description_.layers - 1; layer >= 0; --layer) {
    const Block& block = blocks_[static_cast<std::size_t>(layer)];
    // The last block's activations still stand; earlier ones were overwritten when only one set is kept.
    if (blocks_again() && layer != description_.layers - 1)
      block.forward(pass, input(layer, U), kept(layer), *work_.scratch, work_.dhidden.matrix(U, D));
    block.backward(pass, input(layer, U), kept(layer), *work_.scratch, dx);
  }
  pass.rows.gather(dx);
  kernels_.embedding_grad(stream_, {dx, there_.ids, split_.vocabulary.first,
                                    parameters_.gradient(embedding_).view_rows(0, split_.vocabulary.count)});
}

void Model::loss(const Batch& batch, double* nats) {
  prepare(batch.size(), Purpose::kInfer);
  extend_rope(batch.tokens);
  upload(batch, 1.0f);
  recorded(Purpose::kInfer, /*back=*/false, [this] {
    const Pass pass = training_pass();
    embed(pass, there_.ids);
    run_blocks(pass);
    loss_head_.loss(pass, head_, loss_rows());
  });
  sum_nats(nats);
  forward_done_ = false;
}

ModelState Model::make_state(int sequences, int capacity) const {
  return {description_.layers, sequences, capacity, split_.kv_heads.room * description_.head_width,
          options_.compute,    space()};
}

void Model::infer(std::span<const int> ids, ModelState& state, Matrix<float> logits_RV, bool last_only) {
  const int R = static_cast<int>(ids.size()), B = state.sequences(), D = description_.width;
  require(B > 0 && R % B == 0 && R > 0, "Model::infer: ids are not equally many for every sequence");
  require(logits_RV.contiguous(), "Model::infer: the logits must be contiguous");
  const int T = R / B;
  require(state.length() + T <= state.capacity(), "Model::infer: the state has no room for these tokens");
  prepare(R, Purpose::kInfer);
  extend_rope(state.capacity());
  std::vector<int> positions(static_cast<std::size_t>(R));
  for (int r = 0; r < R; ++r) positions[static_cast<std::size_t>(r)] = state.length() + r % T;
  const Pass pass = pass_of(B, T, positions_.of(positions, space()), nullptr, &state);
  if (parameters_.at(embedding_).quantized) embed_quantized(ids);
  else embed(pass, ids_.of(ids, space()));
  run_blocks(pass);
  state.advance(T);
  Operand read = work_.hidden.matrix(R, D);
  if (last_only) {  // a view of every T-th row: the head is read once for all sequences
    read = read.view_rows(T - 1, 1);
    read.rows = B, read.stride *= T;
  }
  loss_head_.logits(pass, head_, read, logits_RV);
}

}  // namespace slipway
