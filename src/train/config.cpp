#include "src/train/config.hpp"

#include <algorithm>
#include <cmath>

#include "src/core/cpus.hpp"
#include "src/infer/loaded_model.hpp"
#include "src/train/run_summary.hpp"
#include "src/train/slots.hpp"

namespace slipway {
namespace {

constexpr std::int64_t kDefaultSteps = 1000;
constexpr std::int64_t kMostWarmupSteps = 200;  // of the automatic tenth: AdamW's second moment has settled by then
constexpr std::int64_t kDecayShare = 5;         // wsd falls over a fifth (src/train/schedule.hpp)
constexpr double kMuonRate = 3;                 // times AdamW's of the preset: measured, docs/numerics.md
constexpr double kLongestCalibration_s = 600;   // more would be training
constexpr int kMostSampleTokens = 1'000'000;    // beyond lies a typing error
constexpr double kMostEpochs = 1e6;             // beyond lies a typing error, and an overflow of the step count

void want(bool good, const std::string& key, auto value, const char* expected) {
  if (!good) throw Error(Fault::kConfig, join(key, " is ", value, "; ", expected, " is expected"));
}

}  // namespace

void OptimConfig::check() const {
  want(name == "AdamW" || name == "Muon", "optim.name", name, "AdamW or Muon");
  want(schedule == "cosine" || schedule == "wsd", "optim.schedule", schedule, "cosine or wsd");
  want(peak_lr > 0, "optim.peak_lr", peak_lr, "a positive rate");
  want(floor >= 0 && floor <= 1, "optim.floor", floor, "a share from 0 to 1");
  want(momentum >= 0 && momentum < 1, "optim.momentum", momentum, "a number from 0 to below 1");
  want(beta1 >= 0 && beta1 < 1, "optim.beta1", beta1, "a number from 0 to below 1");
  want(beta2 >= 0 && beta2 < 1, "optim.beta2", beta2, "a number from 0 to below 1");
  want(eps > 0, "optim.eps", eps, "a positive number");
  want(weight_decay >= 0, "optim.weight_decay", weight_decay, "0 or more");
  want(warmup_steps >= 0, "optim.warmup_steps", warmup_steps, "0 (automatic) or more");
  want(decay_steps >= 0, "optim.decay_steps", decay_steps, "0 (automatic) or more");
  want(max_grad_norm >= 0, "optim.max_grad_norm", max_grad_norm, "0 or more");
  if (name == "AdamW" && momentum != OptimConfig{}.momentum)
    throw Error(Fault::kConfig, join("optim.momentum is ", momentum,
                                     " but optim.name is AdamW, whose are optim.beta1 and "
                                     "optim.beta2: leave it out, or give --optim.name muon"));
  if (decay_steps > 0 && schedule == "cosine")
    throw Error(Fault::kConfig, join("optim.decay_steps is ", decay_steps,
                                     " but optim.schedule is cosine, which falls from the end of warmup: leave it out, "
                                     "or give --optim.schedule wsd"));
}

void OptimConfig::resolve(std::int64_t run_steps, double preset_peak_lr) {
  if (name == "adamw") name = "AdamW";
  if (name == "muon") name = "Muon";
  if (peak_lr == 0) peak_lr = preset_peak_lr * (is_muon() ? kMuonRate : 1);
  check();
  if (schedule_steps == 0) schedule_steps = run_steps;
  if (warmup_steps == 0) warmup_steps = std::min(kMostWarmupSteps, std::max<std::int64_t>(1, schedule_steps / 10));
  if (warmup_steps > schedule_steps)
    throw Error(Fault::kConfig,
                join("optim.warmup_steps is ", warmup_steps, " but the schedule has ", schedule_steps,
                     " steps: the rate never reaches optim.peak_lr. Lower warmup_steps or raise train.steps"));
  if (schedule == "cosine") return;
  const std::int64_t after_warmup = schedule_steps - warmup_steps;
  if (decay_steps == 0) decay_steps = std::min(after_warmup, schedule_steps / kDecayShare);
  if (decay_steps > after_warmup)
    throw Error(Fault::kConfig,
                join("optim.decay_steps is ", decay_steps, " but the schedule has ", after_warmup,
                     " steps after its warmup; lower decay_steps or warmup_steps, or raise train.steps"));
}

Schedule OptimConfig::rates() const {
  return {.peak = peak_lr,
          .floor = floor,
          .warmup = warmup_steps,
          .horizon = schedule_steps,
          .fall = schedule == "wsd" ? Fall::kWsd : Fall::kCosine,
          .decay = decay_steps};
}

void RunConfig::add_to(Fields& fields) {
  fields.add(model);
  fields.add(data);
  fields.add(train);
  fields.add(optim);
  fields.add(numerics);
  fields.add(layout);
  fields.add(observe);
  fields.add(fault);
}

void RunConfig::check() const {
  want(train.sequence >= 1, "train.sequence", train.sequence, "1 or more");
  want(train.batch >= 1, "train.batch", train.batch, "1 or more");
  want(train.steps >= 0, "train.steps", train.steps, "0 or more");
  want(train.tokens >= 0, "train.tokens", train.tokens, "0 or more");
  want(train.epochs >= 0 && train.epochs <= kMostEpochs, "train.epochs", train.epochs,
       "0 or more, and no more than a million");
  want(train.profile >= 0, "train.profile", train.profile, "0 or more");
  want(train.calibrate_s >= 0 && train.calibrate_s <= kLongestCalibration_s, "train.calibrate_s", train.calibrate_s,
       "0 (none) to 600 seconds");
  want(train.micro_batch >= 0, "train.micro_batch", train.micro_batch, "0 (automatic) or more");
  want(train.max_minutes >= 0, "train.max_minutes", train.max_minutes, "0 or more");
  want(numerics.slots >= 1, "numerics.slots", numerics.slots, "a power of two");
  want(numerics.reduction == "canonical" || numerics.reduction == "library", "numerics.reduction", numerics.reduction,
       "canonical or library");
  want(layout.tensor >= 1, "mesh.tensor", layout.tensor, "1 or more");
  want(layout.pipeline == 1, "mesh.pipeline", layout.pipeline, "1 (pipelines are not built yet)");
  want(layout.peak_gflops >= 0 && std::isfinite(layout.peak_gflops), "runtime.peak_gflops", layout.peak_gflops,
       "0 (measured) or more");
  want(layout.watchdog_s >= 0, "runtime.watchdog_s", layout.watchdog_s, "0 or more");
  check_thread_count(layout.threads);
  want(observe.checkpoint_every >= 0, "checkpoint.every", observe.checkpoint_every, "0 or more");
  want(observe.checkpoint_keep >= 1, "checkpoint.keep", observe.checkpoint_keep, "1 or more");
  want(observe.validate_every >= kValidateAutomatic, "validate.every", observe.validate_every,
       "-1 (automatic), 0 (never) or more");
  want(observe.validate_tokens >= 1, "validate.tokens", observe.validate_tokens, "1 or more");
  want(observe.sample_every >= 0, "sample.every", observe.sample_every, "0 or more");
  want(observe.sample_tokens >= 1 && observe.sample_tokens <= kMostSampleTokens, "sample.tokens", observe.sample_tokens,
       "1 to a million");
  want(observe.log_every >= 1, "log.every", observe.log_every, "1 or more");
  want(observe.progress == "auto" || observe.progress == "on" || observe.progress == "off", "progress",
       observe.progress, "on, off or auto");
}

void RunConfig::resolve(std::int64_t sequences_per_epoch, std::int64_t validation_tokens, const Progress& done) {
  check();
  resolve_steps(sequences_per_epoch, done);
  if (observe.validate_every == kValidateAutomatic)
    observe.validate_every = validate_every_at_little_cost(validation_tokens);
  model.resolve(train.sequence);
  optim.resolve(train.steps, model.preset_peak_lr());
  if (train.micro_batch == 0) train.micro_batch = SlotPlan::default_micro_batch(train.batch, numerics.slots);
  SlotPlan::make(train.batch, train.micro_batch, numerics.slots, 1);
  compute(), recompute();
}

std::vector<std::string> RunConfig::warnings() const {
  std::vector<std::string> found;
  if (model.context != train.sequence)
    found.push_back(join("model.context is ", model.context, " but train.sequence is ", train.sequence,
                         model.context > train.sequence
                             ? ": the exported model claims a longer context than it is trained on; --model.context "
                             : ": the exported model claims a shorter context than it is trained on; --model.context ",
                         train.sequence, " claims what is trained"));
  return found;
}

void RunConfig::resolve_steps(std::int64_t sequences_per_epoch, const Progress& done) {
  const int given = (train.steps > 0) + (train.tokens > 0) + (train.epochs > 0);
  if (given > 1)
    throw Error(Fault::kConfig, "train.steps, train.tokens and train.epochs say the same thing: give one of them");
  const std::int64_t per_step = std::int64_t{train.batch} * train.sequence;  // of two ints: it fits
  if (train.tokens > 0) {
    train.steps_from = join("train.tokens ", train.tokens);
    const std::int64_t left = std::max<std::int64_t>(0, train.tokens - done.tokens);
    train.steps = done.steps + left / per_step + (left % per_step != 0 ? 1 : 0);
  } else if (train.epochs > 0) {
    train.steps_from = join("train.epochs ", train.epochs);
    const double left =
        std::max(0.0, train.epochs * static_cast<double>(sequences_per_epoch) - static_cast<double>(done.sequences));
    const double steps = left / train.batch;
    // The last step of an epoch takes from the next one, unless the data is to end there.
    train.steps = done.steps + static_cast<std::int64_t>(data.on_end == "wrap" ? std::ceil(steps) : std::floor(steps));
    want(train.steps >= 1, "train.epochs", train.epochs, "enough for one step of train.batch sequences");
  } else if (train.steps == 0) {
    train.steps_from = "default";
    train.steps = kDefaultSteps;
  }
  train.tokens = 0;
  train.epochs = 0;
  if (train.steps > std::numeric_limits<std::int64_t>::max() / per_step)
    throw Error(Fault::kConfig,
                join(train.steps_from.empty() || train.steps_from == "default" ? join("train.steps ", train.steps)
                                                                               : train.steps_from,
                     " makes ", train.steps, " steps of ", per_step,
                     " tokens (train.batch x train.sequence), more tokens than a 64-bit number counts; at most ",
                     std::numeric_limits<std::int64_t>::max() / per_step, " steps are expected"));
}

/// A forward pass is a third of a training step of as many tokens, so neither the model nor the layout matters.
std::int64_t RunConfig::validate_every_at_little_cost(std::int64_t validation_tokens) const {
  constexpr double kMostShare = 0.02;  // of all operations: what a curve of the validation loss may cost
  constexpr std::int64_t kUnit = 100;
  const double sequences = static_cast<double>(validation_sequences(*this, validation_tokens)),
               in_steps = sequences / (3.0 * train.batch), every = in_steps * (1 - kMostShare) / kMostShare;
  return kUnit * std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(every / kUnit)));
}

Recompute RunConfig::recompute() const {
  const std::string& word = train.recompute;
  if (word == "none") return Recompute::kNone;
  if (word == "norms" || word == "off") return Recompute::kNorms;
  if (word == "blocks" || word == "on") return Recompute::kBlocks;
  throw Error(Fault::kConfig, join("train.recompute is '", word, "', but one of none, norms, blocks is expected"));
}

DType RunConfig::compute() const {
  return resolve_compute(compute_kept.empty() ? numerics.compute : compute_kept, native_bf16);
}

}  // namespace slipway
