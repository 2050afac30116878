#include "src/train/trainer.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <csignal>
#include <limits>
#include <numeric>

#include "src/config/run_summary.hpp"
#include "src/core/hash.hpp"
#include "src/core/profile.hpp"
#include "src/data/batch.hpp"

namespace slipway {
namespace {

/// Where this rank's part of a parameter lies in the whole tensor. What the rank has room for beyond its own count is
/// padding, so the shape ends there while rectangles are cut.
Shard shard_of(const Parameter& p, const std::string& kind) {
  const std::int64_t rows = p.first_row() + p.unpadded_rows(), cols = p.first_col() + p.unpadded_cols();
  return {.tensor = p.name,
          .kind = kind,
          .shape = p.vector ? std::vector<std::int64_t>{cols} : std::vector<std::int64_t>{rows, cols},
          .offset = {p.first_row(), p.first_col()},
          .local_shape = {p.local_rows, p.local_cols}};
}

/// The rectangles of elements [first, last) of this rank's part of `p`, as slices of the whole tensor.
std::vector<Rectangle> rectangles_of(const Parameter& p, const std::string& kind, std::size_t first, std::size_t last) {
  std::vector<Rectangle> rectangles_in_range =
      rectangles(shard_of(p, kind), static_cast<std::int64_t>(first), static_cast<std::int64_t>(last));
  for (Rectangle& rectangle : rectangles_in_range) rectangle.shape = p.shape();
  return rectangles_in_range;
}

}  // namespace

Trainer::Trainer(const RunConfig& config, Model& model, const Backend& backend, Loader& loader,
                 const Loader* validation, Mesh& mesh, Group& world_group)
    : config_(config),
      model_(model),
      backend_(backend),
      loader_(loader),
      validation_(validation),
      mesh_(mesh),
      world_group_(world_group),
      slots_(
          ReductionSlots::make(config.train.batch, config.train.micro_batch, config.numerics.slots, mesh.data->size())),
      schedule_(config.optim.lr_schedule()),
      update_(config.optim, model.parameters(), backend, mesh, slots_, config.parallel.offload),
      host_mirror_(*backend.memory) {
  model_.parameters().enable_gradients();
}

/// One optimizer step: the loss of every target of every rank counts by its loss weight alone, and every sum has one
/// order, whatever the number of ranks (docs/numerics.md).
void Trainer::step(const std::function<void()>& before_update) {
  const profile::Scope scope("step");
  const StepBatches& batches = read_step();
  const auto loss_scale = static_cast<float>(1.0 / loss_denominator(batches.weight_sum));
  const double lr = schedule_.lr(step_);

  for (int i = 0; const Batch& batch : batches.micro_batches) {
    model_.forward(batch, loss_scale, update_.loss_sum(i));
    model_.backward();
    if (++i % slots_.micro_batches_per_slot() == 0) update_.finish_slot();
  }
  inject_faults();
  update_.check_finite();
  update_.reduce_gradients();
  if (host_mirror_.is_zero_copy()) before_update();
  update_.clip();
  update_.step(step_ - moments_start_step_, lr);
  update_.all_gather_weights();
  update_.zero_gradients();
  update_.copy_stats_to_host_async();
  pending_.push_back({++step_, batches.targets, batches.weight_sum, lr, batches.sha256});
}

const Trainer::StepBatches& Trainer::read_step() {
  struct MicroBatch {
    double weight_sum = 0;
    std::int64_t targets = 0;
    std::array<char, 64> sha256{};  // in hexadecimal
  };
  const std::uint64_t first_sequence = loader_.next_sequences(config_.train.batch, step_ + 1);
  const int local_count = slots_.slots_per_rank() * slots_.micro_batches_per_slot(),
            first_local = mesh_.data->rank() * local_count, size = config_.train.micro_batch;
  std::vector<MicroBatch> local(static_cast<std::size_t>(local_count)),
      all_ranks(local.size() * static_cast<std::size_t>(mesh_.data->size()));
  batches_.micro_batches.resize(local.size());
  {
    const profile::Scope scope("input");
    for (std::size_t i = 0; i < local.size(); ++i) {
      Batch& batch = batches_.micro_batches[i];
      const auto index = static_cast<std::uint64_t>(first_local) + i;
      loader_.sequences(first_sequence + index * static_cast<std::uint64_t>(size), size, batch);
      local[i] = {.weight_sum = batch.weight_sum(), .targets = batch.target_count()};
      const std::string hash = batch_hash(batch);
      std::ranges::copy(hash, local[i].sha256.begin());
    }
  }
  mesh_.data->all_gather(local.data(), local.size() * sizeof local[0], all_ranks.data());
  batches_.weight_sum = 0, batches_.targets = 0;
  std::string hashes;
  for (const MicroBatch& one : all_ranks) {
    batches_.weight_sum += one.weight_sum;
    batches_.targets += one.targets;
    hashes.append(one.sha256.begin(), one.sha256.end());
  }
  batches_.sha256 = sha256_hex(hashes);
  return batches_;
}

StepReport Trainer::report() {
  require(!pending_.empty(), "Trainer::report: every step was reported");
  const StepStatsView stats = update_.report();
  PendingStep pending = std::move(pending_.front());
  pending_.pop_front();
  const double loss = reduce_slots(stats.loss_sums, slots_.slots) * (1.0 / loss_denominator(pending.weight_sum));
  if (std::isnan(stats.clip_coef)) throw_non_finite(pending.step, loss, stats);  // the same on all ranks
  const double limit = config_.optim.max_grad_norm;
  return {.step = pending.step,
          .targets = pending.targets,
          .loss = loss,
          .grad_norm = stats.grad_norm,
          .lr = pending.lr,
          .clipped = limit > 0 && stats.grad_norm > limit,
          .batch_sha256 = std::move(pending.batch_sha256)};
}

void Trainer::throw_non_finite(std::int64_t step, double loss, const StepStatsView& stats) {
  std::vector<std::int64_t> first_non_finite(static_cast<std::size_t>(world_group_.size()));
  world_group_.all_gather(&stats.first_non_finite, sizeof stats.first_non_finite, first_non_finite.data());
  std::string cause = std::isfinite(loss) ? "no single rank's gradient is at fault: the sum overflowed"
                                          : "the loss itself, while all gradients are finite";
  for (std::size_t rank = 0; rank < first_non_finite.size(); ++rank) {
    if (first_non_finite[rank] < 0) continue;
    for (const ParameterSlice& slice : model_.parameters().slices(static_cast<std::size_t>(first_non_finite[rank]), 1))
      cause = join("rank ", rank, ", tensor ", slice.parameter->name, ", element ",
                   slice.first - slice.parameter->offset, " of its part");
    break;
  }
  throw Error(Fault::kNumeric,
              join("step ", step, " is not finite (loss ", loss, ", gradient norm ", stats.grad_norm, "): ", cause,
                   "; the weights were not touched. Resume from the last checkpoint with a lower optim.peak_lr, or "
                   "look at the data of this step"));
}

void Trainer::inject_faults() {
  const FaultConfig& fault = config_.fault;
  if (fault.kill_step == step_ + 1) std::raise(SIGKILL);
  if (fault.nan_step != step_ + 1 || fault.nan_rank != world_group_.rank()) return;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  backend_.memory->write(update_.local_gradients().data(), &nan, sizeof nan);
}

double Trainer::validate() {
  const auto sequences = static_cast<int>(validation_sequences(config_, validation_->tokens_per_epoch()));
  const int micro_batch = config_.train.micro_batch, batches = (sequences + micro_batch - 1) / micro_batch;
  // Each batch is one rank's; the others add 0 to its sums.
  std::vector<double> loss_sums(static_cast<std::size_t>(batches)), weights(loss_sums.size());
  StagedDownload<double> download;
  double* const device_loss_sums = download.buffer_for(loss_sums, *backend_.memory);  // read at the end, all at once
  for (int i = mesh_.data->rank(); i < batches; i += mesh_.data->size()) {
    const Batch batch = validation_->sequences(static_cast<std::uint64_t>(i) * static_cast<std::uint64_t>(micro_batch),
                                               std::min(micro_batch, sequences - i * micro_batch));
    model_.loss(batch, device_loss_sums + i);
    weights[static_cast<std::size_t>(i)] = batch.weight_sum();
  }
  download.finish();
  for (std::vector<double>* sums : {&loss_sums, &weights}) mesh_.data->all_reduce_sum(std::span<double>(*sums));
  return std::accumulate(loss_sums.begin(), loss_sums.end(), 0.0) /
         loss_denominator(std::accumulate(weights.begin(), weights.end(), 0.0));
}

std::vector<SliceView> Trainer::slices() {
  host_mirror_.reset();
  const bool on_host = update_.optimizer().moments_on_host();
  const std::span<float> values = model_.parameters().values();
  std::vector<SliceView> result;
  const auto add = [&](const ParameterSlice& slice, const char* kind, std::span<float> numbers, bool readable) {
    const Parameter& p = *slice.parameter;
    if (p.shard == ShardAxis::kReplicated && mesh_.tensor->rank() != 0) return;  // tensor rank 0 speaks for all
    const float* data = host_mirror_.host_view(numbers, readable);
    const std::size_t begin = slice.first - p.offset;
    for (const Rectangle& rectangle : rectangles_of(p, kind, begin, begin + slice.count))
      result.push_back(rectangle.view(data));
  };
  const auto add_value = [&](const ParameterSlice& slice) {
    add(slice, "value", values.subspan(slice.first, slice.count), /*readable=*/false);
  };
  for (const OptimizerShard& shard : update_.optimizer().shards()) {
    add_value(shard.slice);
    for (const OptimizerShard::Moment& moment : shard.moments) add(shard.slice, moment.kind, moment.values, on_host);
  }
  const Group::Range frozen = update_.shards().frozen(mesh_.data->rank());
  for (const ParameterSlice& slice : model_.parameters().slices(frozen.first, frozen.count)) add_value(slice);
  return result;
}

std::uint64_t Trainer::load(CheckpointReader& reader, std::int64_t step, std::int64_t moments_start_step,
                            bool load_optimizer_state) {
  HostMirror mirror(*backend_.memory);
  const std::span<float> values = model_.parameters().values();
  std::vector<ReadRequest> wanted;
  const auto add_wanted = [&](const Parameter& p, const char* kind, std::size_t begin, std::span<float> numbers,
                              bool on_host) {
    float* data = mirror.host_view(numbers, on_host);
    for (const Rectangle& r : rectangles_of(p, kind, begin, begin + numbers.size()))
      wanted.push_back({r, data + r.start, r.stride});
  };
  for (const Parameter& p : model_.parameters().all())
    add_wanted(p, "value", 0, values.subspan(p.offset, p.local_size()), /*on_host=*/false);
  for (const OptimizerShard& piece : update_.optimizer().shards()) {
    if (!load_optimizer_state) break;
    for (const OptimizerShard::Moment& moment : piece.moments)
      add_wanted(*piece.slice.parameter, moment.kind, piece.slice.first - piece.slice.parameter->offset, moment.values,
                 update_.optimizer().moments_on_host());
  }
  reader.read_all(wanted);
  mirror.write_back();
  model_.update_compute_copy();
  update_.reset();
  pending_.clear();
  step_ = step;
  moments_start_step_ = load_optimizer_state ? moments_start_step : step;
  std::uint64_t bytes = 0;
  for (const ReadRequest& one : wanted) bytes += one.slice.bytes();
  return bytes;
}

}  // namespace slipway
