#include "src/train/trainer.hpp"

#include <cmath>
#include <csignal>
#include <limits>

#include "src/config/run_summary.hpp"
#include "src/core/hash.hpp"
#include "src/core/profile.hpp"
#include "src/data/packing.hpp"

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
          .local = {p.local_rows, p.local_cols}};
}

/// The rectangles of elements [first, last) of this rank's part of `p`, as slices of the whole tensor.
std::vector<Rectangle> rectangles_of(const Parameter& p, const std::string& kind, std::size_t first, std::size_t last) {
  std::vector<Rectangle> pieces =
      rectangles(shard_of(p, kind), static_cast<std::int64_t>(first), static_cast<std::int64_t>(last));
  for (Rectangle& piece : pieces) piece.shape = p.shape();
  return pieces;
}

}  // namespace

Trainer::Trainer(const RunConfig& config, Model& model, const Backend& backend, Loader& loader,
                 const Loader* validation, Mesh& mesh, Group& all)
    : config_(config),
      model_(model),
      backend_(backend),
      loader_(loader),
      validation_(validation),
      mesh_(mesh),
      all_(all),
      slots_(
          ReductionSlots::make(config.train.batch, config.train.micro_batch, config.numerics.slots, mesh.data->size())),
      schedule_(config.optim.lr_schedule()),
      update_(config.optim, model.parameters(), backend, mesh, slots_, config.parallel.offload),
      host_mirror_(*backend.memory) {
  model_.parameters().enable_gradients();
}

/// One optimizer step: every target token of every rank weighs the same, and every sum has one order,
/// whatever the number of ranks (docs/numerics.md).
void Trainer::step(const std::function<void()>& before_update) {
  const profile::Scope scope("step");
  const std::uint64_t first_sequence = loader_.next_sequences(config_.train.batch, step_ + 1);
  PendingStep pending{.step = step_ + 1, .targets = loader_.targets(first_sequence, config_.train.batch)};
  const double loss_scale = 1.0 / static_cast<double>(std::max<std::int64_t>(1, pending.targets));

  std::string hashes;  // of this rank's micro-batches, in order
  const int per_slot = slots_.micro_batches_per_slot(), micro_batches = slots_.slots_per_rank() * per_slot;
  const int first_micro_batch = slots_.first_slot(mesh_.data->rank()) * per_slot;
  for (int i = 0; i < micro_batches; ++i) {
    const Batch& batch = micro_batch(first_sequence, first_micro_batch + i);
    hashes += batch_hash(batch);
    model_.forward(batch, static_cast<float>(loss_scale), update_.loss_sum(i));
    model_.backward();
    if ((i + 1) % per_slot == 0) update_.finish_slot();
  }
  inject_faults();
  pending.batch_sha256 = hash_of_all_ranks(hashes);

  update_.check_finite();
  update_.reduce_gradients();
  if (host_mirror_.direct()) before_update();
  pending.lr = schedule_.lr(step_);
  update_.apply(step_ - moments_from_, pending.lr);
  pending_.push_back(std::move(pending));
  ++step_;
}

StepReport Trainer::report() {
  require(!pending_.empty(), "Trainer::report: every step was reported");
  const StepStatsView found = update_.report();
  PendingStep pending = std::move(pending_.front());
  pending_.pop_front();
  const double targets = static_cast<double>(std::max<std::int64_t>(1, pending.targets)),
               loss = reduce_slots(found.loss_sums, slots_.slots) * (1.0 / targets);
  if (std::isnan(found.clip_scale)) throw_non_finite(pending.step, loss, found);  // the same on all ranks
  const double limit = config_.optim.max_grad_norm;
  return {.step = pending.step,
          .targets = pending.targets,
          .loss = loss,
          .grad_norm = found.grad_norm,
          .lr = pending.lr,
          .clipped = limit > 0 && found.grad_norm > limit,
          .batch_sha256 = std::move(pending.batch_sha256)};
}

const Batch& Trainer::micro_batch(std::uint64_t first_sequence, int index) {
  const profile::Scope scope("input");
  const auto size = static_cast<std::uint64_t>(config_.train.micro_batch);
  loader_.sequences(first_sequence + static_cast<std::uint64_t>(index) * size, config_.train.micro_batch, batch_);
  return batch_;
}

std::string Trainer::hash_of_all_ranks(const std::string& hashes) {
  std::string all(hashes.size() * static_cast<std::size_t>(mesh_.data->size()), '\0');
  mesh_.data->all_gather(hashes.data(), hashes.size(), all.data());
  return sha256_hex(all);
}

void Trainer::throw_non_finite(std::int64_t step, double loss, const StepStatsView& found) {
  std::vector<std::int64_t> first_non_finite(static_cast<std::size_t>(all_.size()));
  all_.all_gather(&found.first_non_finite, sizeof found.first_non_finite, first_non_finite.data());
  std::string cause = std::isfinite(loss) ? "no single rank's gradient is at fault: the sum overflowed"
                                          : "the loss itself, while all gradients are finite";
  for (std::size_t rank = 0; rank < first_non_finite.size(); ++rank) {
    if (first_non_finite[rank] < 0) continue;
    for (const ParameterSlice& piece : model_.parameters().pieces(static_cast<std::size_t>(first_non_finite[rank]), 1))
      cause = join("rank ", rank, ", tensor ", piece.parameter->name, ", element ",
                   piece.first - piece.parameter->offset, " of its part");
    break;
  }
  throw Error(Fault::kNumeric,
              join("step ", step, " is not finite (loss ", loss, ", gradient norm ", found.grad_norm, "): ", cause,
                   "; the weights were not touched. Resume from the last checkpoint with a lower optim.peak_lr, or "
                   "look at the data of this step"));
}

void Trainer::inject_faults() {
  const FaultConfig& fault = config_.fault;
  if (fault.kill_step == step_ + 1) std::raise(SIGKILL);
  if (fault.nan_step != step_ + 1 || fault.nan_rank != all_.rank()) return;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  backend_.memory->write(update_.local_gradients().data(), &nan, sizeof nan);
}

double Trainer::validate() {
  const auto sequences = static_cast<int>(validation_sequences(config_, validation_->tokens_per_epoch()));
  const int unit = config_.train.micro_batch, batches = (sequences + unit - 1) / unit;
  std::vector<double> nats(static_cast<std::size_t>(batches));  // each batch is one rank's; the others add 0 to it
  StagedDownload<double> there;
  double* const sums = there.into(nats, *backend_.memory);  // read at the end, all at once
  for (int i = mesh_.data->rank(); i < batches; i += mesh_.data->size()) {
    const Batch batch = validation_->sequences(static_cast<std::uint64_t>(i) * static_cast<std::uint64_t>(unit),
                                               std::min(unit, sequences - i * unit));
    model_.loss(batch, sums + i);
  }
  there.finish();
  mesh_.data->all_reduce_sum(std::span<double>(nats));
  double sum = 0;
  for (const double value : nats) sum += value;
  return sum / static_cast<double>(std::max<std::int64_t>(1, validation_->targets(0, sequences)));
}

std::vector<SliceView> Trainer::slices() {
  host_mirror_.begin();
  const bool on_host = update_.optimizer().moments_on_host();
  const std::span<float> values = model_.parameters().values();
  std::vector<SliceView> result;
  const auto add = [&](const ParameterSlice& where, const char* kind, std::span<float> numbers, bool readable) {
    const Parameter& p = *where.parameter;
    if (p.shard == ShardAxis::kReplicated && mesh_.tensor->rank() != 0) return;  // tensor rank 0 speaks for all
    const float* data = host_mirror_.of(numbers, readable);
    const std::size_t begin = where.first - p.offset;
    for (const Rectangle& rectangle : rectangles_of(p, kind, begin, begin + where.count))
      result.push_back(rectangle.view(data));
  };
  const auto add_value = [&](const ParameterSlice& where) {
    add(where, "value", values.subspan(where.first, where.count), /*readable=*/false);
  };
  for (const OptimizerShard& shard : update_.optimizer().pieces()) {
    add_value(shard.where);
    for (const OptimizerShard::Moment& moment : shard.moments) add(shard.where, moment.kind, moment.values, on_host);
  }
  const Group::Range frozen = update_.shards().frozen(mesh_.data->rank());
  for (const ParameterSlice& where : model_.parameters().pieces(frozen.first, frozen.count)) add_value(where);
  return result;
}

std::uint64_t Trainer::load(CheckpointReader& reader, std::int64_t step, std::int64_t moments_from, bool moments) {
  HostMirror copies(*backend_.memory);
  const std::span<float> values = model_.parameters().values();
  std::vector<WantedSlice> wanted;
  const auto want = [&](const Parameter& p, const char* kind, std::size_t begin, std::span<float> numbers,
                        bool on_host) {
    float* data = copies.of(numbers, on_host);
    for (const Rectangle& r : rectangles_of(p, kind, begin, begin + numbers.size()))
      wanted.push_back({r, data + r.start, r.stride});
  };
  for (const Parameter& p : model_.parameters().all())
    want(p, "value", 0, values.subspan(p.offset, p.local_size()), /*on_host=*/false);
  for (const OptimizerShard& piece : update_.optimizer().pieces()) {
    if (!moments) break;
    for (const OptimizerShard::Moment& moment : piece.moments)
      want(*piece.where.parameter, moment.kind, piece.where.first - piece.where.parameter->offset, moment.values,
           update_.optimizer().moments_on_host());
  }
  reader.read_all(wanted);
  copies.write_back();
  model_.refresh();
  update_.reset();
  pending_.clear();
  step_ = step;
  moments_from_ = moments ? moments_from : step;
  std::uint64_t bytes = 0;
  for (const WantedSlice& one : wanted) bytes += one.slice.bytes();
  return bytes;
}

}  // namespace slipway
