#include "src/optim/optim_config.hpp"

#include <algorithm>

namespace slipway {
namespace {

constexpr std::int64_t kMaxWarmupSteps = 200;  // of the automatic tenth: AdamW's second moment has converged by then
constexpr std::int64_t kDecayDivisor = 5;      // wsd decays over a fifth (lr_schedule.hpp)
constexpr double kMuonLrScale = 3;             // times the preset's AdamW rate: measured, docs/numerics.md

}  // namespace

void OptimConfig::check() const {
  check_value(name == "AdamW" || name == "Muon", "optim.name", name, "AdamW or Muon");
  check_value(schedule == "cosine" || schedule == "wsd", "optim.schedule", schedule, "cosine or wsd");
  check_value(peak_lr > 0, "optim.peak_lr", peak_lr, "a positive rate");
  check_value(floor >= 0 && floor <= 1, "optim.floor", floor, "a share from 0 to 1");
  check_value(momentum >= 0 && momentum < 1, "optim.momentum", momentum, "a number from 0 to below 1");
  check_value(beta1 >= 0 && beta1 < 1, "optim.beta1", beta1, "a number from 0 to below 1");
  check_value(beta2 >= 0 && beta2 < 1, "optim.beta2", beta2, "a number from 0 to below 1");
  check_value(eps > 0, "optim.eps", eps, "a positive number");
  check_value(weight_decay >= 0, "optim.weight_decay", weight_decay, "0 or more");
  check_value(warmup_steps >= 0, "optim.warmup_steps", warmup_steps, "0 (automatic) or more");
  check_value(decay_steps >= 0, "optim.decay_steps", decay_steps, "0 (automatic) or more");
  check_value(max_grad_norm >= 0, "optim.max_grad_norm", max_grad_norm, "0 or more");
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
  if (peak_lr == 0) peak_lr = preset_peak_lr * (is_muon() ? kMuonLrScale : 1);
  check();
  if (schedule_steps == 0) schedule_steps = run_steps;
  if (warmup_steps == 0) warmup_steps = std::min(kMaxWarmupSteps, std::max<std::int64_t>(1, schedule_steps / 10));
  if (warmup_steps > schedule_steps)
    throw Error(Fault::kConfig,
                join("optim.warmup_steps is ", warmup_steps, " but the schedule has ", schedule_steps,
                     " steps: the rate never reaches optim.peak_lr. Lower warmup_steps or raise train.steps"));
  if (schedule == "cosine") return;
  const std::int64_t after_warmup = schedule_steps - warmup_steps;
  if (decay_steps == 0) decay_steps = std::min(after_warmup, schedule_steps / kDecayDivisor);
  if (decay_steps > after_warmup)
    throw Error(Fault::kConfig,
                join("optim.decay_steps is ", decay_steps, " but the schedule has ", after_warmup,
                     " steps after its warmup; lower decay_steps or warmup_steps, or raise train.steps"));
}

LrSchedule OptimConfig::lr_schedule() const {
  return {.peak = peak_lr,
          .floor = floor,
          .warmup = warmup_steps,
          .horizon = schedule_steps,
          .decay_shape = schedule == "wsd" ? DecayShape::kWsd : DecayShape::kCosine,
          .decay = decay_steps};
}

}  // namespace slipway
