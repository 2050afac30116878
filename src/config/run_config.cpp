#include "src/config/run_config.hpp"

#include <algorithm>
#include <cmath>

#include "src/config/run_summary.hpp"
#include "src/core/cpus.hpp"
#include "src/optim/reduction_slots.hpp"

namespace slipway {
namespace {

constexpr std::int64_t kDefaultSteps = 1000;
constexpr double kMaxCalibration_s = 600;    // more would be training
constexpr int kMaxSampleTokens = 1'000'000;  // more is a typing error
constexpr double kMaxEpochs = 1e6;           // more is a typing error, and would overflow the step count

}  // namespace

void RunConfig::add_to(Fields& fields) {
  fields.add(model);
  fields.add(data);
  fields.add(train);
  fields.add(optim);
  fields.add(numerics);
  fields.add(parallel);
  fields.add(reporting);
  fields.add(fault);
}

void RunConfig::check() const {
  check_value(train.sequence >= 1, "train.sequence", train.sequence, "1 or more");
  check_value(train.batch >= 1, "train.batch", train.batch, "1 or more");
  check_value(train.steps >= 0, "train.steps", train.steps, "0 or more");
  check_value(train.tokens >= 0, "train.tokens", train.tokens, "0 or more");
  check_value(train.epochs >= 0 && train.epochs <= kMaxEpochs, "train.epochs", train.epochs,
              "0 or more, and no more than a million");
  check_value(train.profile >= 0, "train.profile", train.profile, "0 or more");
  check_value(train.calibrate_s >= 0 && train.calibrate_s <= kMaxCalibration_s, "train.calibrate_s", train.calibrate_s,
              "0 (none) to 600 seconds");
  check_value(train.micro_batch >= 0, "train.micro_batch", train.micro_batch, "0 (automatic) or more");
  check_value(train.max_minutes >= 0, "train.max_minutes", train.max_minutes, "0 or more");
  check_value(numerics.slots >= 1, "numerics.slots", numerics.slots, "a power of two");
  check_value(numerics.reduction == "canonical" || numerics.reduction == "library", "numerics.reduction",
              numerics.reduction, "canonical or library");
  check_value(parallel.tensor >= 1, "mesh.tensor", parallel.tensor, "1 or more");
  check_value(parallel.pipeline == 1, "mesh.pipeline", parallel.pipeline, "1 (pipelines are not built yet)");
  check_value(parallel.peak_gflops >= 0 && std::isfinite(parallel.peak_gflops), "runtime.peak_gflops",
              parallel.peak_gflops, "0 (measured) or more");
  check_value(parallel.watchdog_s >= 0, "runtime.watchdog_s", parallel.watchdog_s, "0 or more");
  check_thread_count(parallel.threads);
  check_value(reporting.checkpoint_every >= 0, "checkpoint.every", reporting.checkpoint_every, "0 or more");
  check_value(reporting.checkpoint_keep >= 1, "checkpoint.keep", reporting.checkpoint_keep, "1 or more");
  check_value(reporting.validate_every >= kValidateAuto, "validate.every", reporting.validate_every,
              "-1 (automatic), 0 (never) or more");
  check_value(reporting.validate_tokens >= 1, "validate.tokens", reporting.validate_tokens, "1 or more");
  check_value(reporting.sample_every >= 0, "sample.every", reporting.sample_every, "0 or more");
  check_value(reporting.sample_tokens >= 1 && reporting.sample_tokens <= kMaxSampleTokens, "sample.tokens",
              reporting.sample_tokens, "1 to a million");
  check_value(reporting.log_every >= 1, "log.every", reporting.log_every, "1 or more");
  check_value(reporting.progress == "auto" || reporting.progress == "on" || reporting.progress == "off", "progress",
              reporting.progress, "on, off or auto");
}

void RunConfig::resolve(std::int64_t sequences_per_epoch, std::int64_t validation_tokens, const RunProgress& progress) {
  check();
  resolve_steps(sequences_per_epoch, progress);
  if (reporting.validate_every == kValidateAuto) reporting.validate_every = default_validate_every(validation_tokens);
  model.resolve(train.sequence);
  optim.resolve(train.steps, model.preset_peak_lr());
  if (train.micro_batch == 0) train.micro_batch = ReductionSlots::default_micro_batch(train.batch, numerics.slots);
  ReductionSlots::make(train.batch, train.micro_batch, numerics.slots, 1);
  compute_dtype(), recompute();
}

std::vector<std::string> RunConfig::warnings() const {
  std::vector<std::string> messages;
  if (model.shape.context != train.sequence)
    messages.push_back(
        join("model.context is ", model.shape.context, " but train.sequence is ", train.sequence,
             model.shape.context > train.sequence
                 ? ": the exported model claims a longer context than it is trained on; --model.context "
                 : ": the exported model claims a shorter context than it is trained on; --model.context ",
             train.sequence, " claims what is trained"));
  return messages;
}

void RunConfig::resolve_steps(std::int64_t sequences_per_epoch, const RunProgress& progress) {
  const int num_given = (train.steps > 0) + (train.tokens > 0) + (train.epochs > 0);
  if (num_given > 1)
    throw Error(Fault::kConfig, "train.steps, train.tokens and train.epochs say the same thing: give one of them");
  const std::int64_t tokens_per_step = std::int64_t{train.batch} * train.sequence;  // two ints: cannot overflow
  if (train.tokens > 0) {
    train.steps_source = join("train.tokens ", train.tokens);
    const std::int64_t remaining = std::max<std::int64_t>(0, train.tokens - progress.consumed_tokens);
    train.steps = progress.steps + remaining / tokens_per_step + (remaining % tokens_per_step != 0 ? 1 : 0);
  } else if (train.epochs > 0) {
    train.steps_source = join("train.epochs ", train.epochs);
    const double remaining = std::max(0.0, train.epochs * static_cast<double>(sequences_per_epoch) -
                                               static_cast<double>(progress.consumed_sequences));
    const double steps = remaining / train.batch;
    // The last step of an epoch reads into the next epoch, unless the data ends there.
    train.steps =
        progress.steps + static_cast<std::int64_t>(data.on_end == "wrap" ? std::ceil(steps) : std::floor(steps));
    check_value(train.steps >= 1, "train.epochs", train.epochs, "enough for one step of train.batch sequences");
  } else if (train.steps == 0) {
    train.steps_source = "default";
    train.steps = kDefaultSteps;
  }
  train.tokens = 0;
  train.epochs = 0;
  if (train.steps > std::numeric_limits<std::int64_t>::max() / tokens_per_step)
    throw Error(Fault::kConfig,
                join(train.steps_source.empty() || train.steps_source == "default" ? join("train.steps ", train.steps)
                                                                                   : train.steps_source,
                     " makes ", train.steps, " steps of ", tokens_per_step,
                     " tokens (train.batch x train.sequence), more tokens than a 64-bit number counts; at most ",
                     std::numeric_limits<std::int64_t>::max() / tokens_per_step, " steps are expected"));
}

/// A forward pass costs a third of a training step on the same number of tokens, whatever the model and the layout.
std::int64_t RunConfig::default_validate_every(std::int64_t validation_tokens) const {
  constexpr double kMaxShare = 0.02;  // of all operations: the most that validation may cost
  constexpr std::int64_t kRoundTo = 100;
  const double sequences = static_cast<double>(validation_sequences(*this, validation_tokens)),
               cost_steps = sequences / (3.0 * train.batch), interval = cost_steps * (1 - kMaxShare) / kMaxShare;
  return kRoundTo * std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(interval / kRoundTo)));
}

Recompute RunConfig::recompute() const {
  const std::string& value = train.recompute;
  if (value == "none") return Recompute::kNone;
  if (value == "norms" || value == "off") return Recompute::kNorms;
  if (value == "blocks" || value == "on") return Recompute::kBlocks;
  throw Error(Fault::kConfig, join("train.recompute is '", value, "', but one of none, norms, blocks is expected"));
}

DType RunConfig::compute_dtype() const {
  return resolve_compute(resumed_compute.empty() ? numerics.compute : resumed_compute, native_bf16);
}

}  // namespace slipway
