// The keys of the optimizer and of the learning-rate schedule.
#pragma once

#include <cstdint>
#include <string>

#include "src/core/config.hpp"
#include "src/optim/lr_schedule.hpp"

namespace slipway {

/// Optimizer and learning-rate schedule. Keys `optim.*`.
struct OptimConfig {
  std::string name = "AdamW";
  std::string schedule = "cosine";
  double peak_lr = 0;
  std::int64_t warmup_steps = 0;
  std::int64_t schedule_steps = 0;
  std::int64_t decay_steps = 0;
  double floor = 0.1;
  double momentum = 0.95;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  double max_grad_norm = 1.0;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("optim.name", self.name, {"AdamW, or Muon for the hidden matrices and AdamW for the rest", "AdamW|Muon"});
    visit("optim.schedule", self.schedule,
          {"learning rate schedule: cosine decay, or wsd: constant, then 1-sqrt decay over optim.decay_steps",
           "cosine|wsd"});
    visit("optim.peak_lr", self.peak_lr,
          {"peak learning rate, at the end of warmup; 0: the preset's, three times that with Muon", "LR",
           HelpVisibility::kFirst});
    visit("optim.warmup_steps", self.warmup_steps,
          {"linear warmup from 0; 0: a tenth of the run, at most 200", "STEPS"});
    visit(
        "optim.schedule_steps", self.schedule_steps,
        {"step at which the learning rate reaches its minimum; 0: the last step of the run as it was started", "STEPS"},
        ResumePolicy::kRunLength);
    visit("optim.decay_steps", self.decay_steps,
          {"wsd: length of the final decay; 0: a fifth of the schedule", "STEPS"}, ResumePolicy::kRunLength);
    visit("optim.floor", self.floor, {"minimum learning rate, as a fraction of optim.peak_lr", "FRACTION"});
    visit("optim.momentum", self.momentum, "Muon: momentum");
    visit("optim.beta1", self.beta1, "AdamW: decay of the first moment");
    visit("optim.beta2", self.beta2, "AdamW: decay of the second moment");
    visit("optim.eps", self.eps, "AdamW: added to the denominator");
    visit("optim.weight_decay", self.weight_decay, "decoupled weight decay of matrices; norms and biases have none");
    visit("optim.max_grad_norm", self.max_grad_norm, "gradient clipping: largest global L2 norm; 0: no clipping");
  }
  /// Normalizes the spelling of names, fills in defaults that depend on the run and the preset, and checks all values.
  /// Errors   Fault::kConfig, naming the keys.
  void resolve(std::int64_t run_steps, double preset_peak_lr);
  bool is_muon() const { return name == "Muon"; }
  LrSchedule lr_schedule() const;  ///< after resolve()

 private:
  void check() const;
};

}  // namespace slipway
