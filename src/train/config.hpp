// The keys of a training run, beside the model's and the data's.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kernels/table.hpp"
#include "src/core/config.hpp"
#include "src/core/dtype.hpp"
#include "src/data/loader.hpp"
#include "src/model/config.hpp"
#include "src/model/recompute.hpp"
#include "src/train/schedule.hpp"

namespace slipway {

/// How long, how much at once. Keys `train.*`.
struct TrainConfig {
  std::int64_t steps = 0;
  std::int64_t tokens = 0;
  double epochs = 0;
  double max_minutes = 0;
  std::uint64_t seed = 1;
  int sequence = 512;
  int batch = 16;
  int micro_batch = 0;
  std::string recompute = "norms";
  bool rehearsal = true;
  int profile = 0;
  double calibrate_s = 0;
  std::string
      init;  ///< a model (run, checkpoint, .gguf), relative to the file that holds this key; empty: from the seed
  std::string fork;        ///< a checkpoint of another run, relative like `init`; empty: the run begins at step 1
  std::string steps_from;  ///< what resolve() took the steps from: "default", "train.tokens 512000"; empty: as given

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("train.steps", self.steps, "optimizer steps; 0: from train.tokens or train.epochs, else 1000",
          Change::kHorizon);
    visit("train.tokens", self.tokens, "tokens to train on, in place of steps; 0: not given", Change::kHorizon);
    visit("train.epochs", self.epochs, "passes over the data, in place of steps; 0: not given", Change::kHorizon);
    visit("train.max_minutes", self.max_minutes, "save and end well before this wall time; 0: no limit",
          Change::kHorizon);
    visit("train.seed", self.seed, "decides first weights and the order of the data");
    visit("train.sequence", self.sequence, "tokens a sequence");
    visit("train.batch", self.batch, "sequences a step, over all ranks");
    visit("train.micro_batch", self.micro_batch,
          "sequences at once on a rank: the unit of arithmetic; 0: batch / its largest power of two up to slots");
    visit("train.profile", self.profile,
          "after the first step: trace this many steps, to RUN/profile/trace.json (for Perfetto) and a table",
          Change::kObserving);
    visit("train.calibrate_s", self.calibrate_s,
          "before the first step: measure for about this many seconds, and put predicted times into RUN/plan.json; 0: "
          "only memory, which is counted",
          Change::kObserving);
    visit("train.init", self.init, "begin with the weights of this model: run, checkpoint or .gguf (--init for short)",
          Change::kPlace);
    visit("train.fork", self.fork,
          "begin with weights, optimizer state and data position of this run or checkpoint (--fork for short)",
          Change::kPlace);
    visit(
        "train.recompute", self.recompute,
        "what the way back makes again in place of keeping it: none; norms (outputs of norms and gates: cheap; off for "
        "short); blocks (all but their inputs: least memory, a third more work; on for short)",
        Change::kLayout);
    visit("train.rehearsal", self.rehearsal, "walk the whole life of a run on untrained weights before step 1",
          Change::kObserving);
  }
};

/// How the weights move. Keys `optim.*`.
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
    visit("optim.name", self.name, "AdamW, or Muon: orthogonal updates of hidden matrices, AdamW for the rest");
    visit("optim.schedule", self.schedule,
          "how the rate falls: cosine, or wsd: stable at its peak, then decay_steps down");
    visit("optim.peak_lr", self.peak_lr,
          "learning rate at the end of warmup; 0: the preset's, with Muon three times that");
    visit("optim.warmup_steps", self.warmup_steps, "steps of linear rise from 0; 0: a tenth of the run, 200 at most");
    visit("optim.schedule_steps", self.schedule_steps,
          "steps until the rate reaches its floor; 0: the run's steps at birth", Change::kHorizon);
    visit("optim.decay_steps", self.decay_steps,
          "of wsd: the last steps of the schedule, in which the rate falls; 0: a fifth of it", Change::kHorizon);
    visit("optim.floor", self.floor, "the rate after its fall, as a share of peak_lr");
    visit("optim.momentum", self.momentum, "of Muon: decay of the sum of gradients of a matrix");
    visit("optim.beta1", self.beta1, "of AdamW: decay of the first moment");
    visit("optim.beta2", self.beta2, "of AdamW: decay of the second moment");
    visit("optim.eps", self.eps, "added to the root of the second moment");
    visit("optim.weight_decay", self.weight_decay, "decoupled decay of matrices; norms and biases have none");
    visit("optim.max_grad_norm", self.max_grad_norm, "global L2 norm to clip to; 0 for none");
  }
  /// Puts names into their one spelling and what depends on run and preset in place, and checks.
  /// Errors   Fault::kConfig, naming the keys.
  void resolve(std::int64_t run_steps, double preset_peak_lr);
  bool is_muon() const { return name == "Muon"; }
  Schedule rates() const;  ///< after resolve()

 private:
  void check() const;
};

/// How numbers are computed. Keys `numerics.*`.
struct NumericsConfig {
  std::string compute = "auto";
  int slots = 8;
  std::string reduction = "canonical";

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("numerics.compute", self.compute, "f32, bf16, or auto: bf16 where the hardware multiplies it");
    visit("numerics.slots", self.slots,
          "canonical slots of a step: the most data ranks that give the same bits; a power of two");
    visit("numerics.reduction", self.reduction,
          "canonical: sums over ranks in one order; library: NCCL's own, other bits for other numbers of GPUs");
  }
};

/// How ranks are arranged, and what each may use. Keys `mesh.*` and `runtime.*`.
struct LayoutConfig {
  int tensor = 1;
  int pipeline = 1;
  int threads = 0;
  std::string instructions = "auto";
  double watchdog_s = 600;
  double peak_gflops = 0;
  std::string device = "auto";
  bool graphs = true;
  bool tune = false;
  bool offload = false;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("mesh.tensor", self.tensor, "ranks that share one copy of the weights; data ranks are what remains",
          Change::kLayout);
    visit("mesh.pipeline", self.pipeline, "1: pipelines are not built yet", Change::kLayout);
    visit("runtime.threads", self.threads, "threads a rank; 0: the host's cores divided by its ranks", Change::kLayout);
    visit("runtime.instructions", self.instructions,
          "what row ops and products compute with: base, avx512, avx512_bf16 or auto (the best this CPU has)",
          Change::kLayout);
    visit("runtime.watchdog_s", self.watchdog_s,
          "seconds a collective may wait for a peer before all ranks end; 0: for ever", Change::kObserving);
    visit(
        "runtime.peak_gflops", self.peak_gflops,
        "GFLOP/s that one rank can reach, which MFU is relative to; 0: measured at the start, and raised where the run "
        "reaches more",
        Change::kObserving);
    visit("device", self.device, "cpu, cuda, cuda:N or auto", Change::kLayout);
    visit("runtime.graphs", self.graphs, "on a GPU, micro-batches are queued whole, as CUDA graphs", Change::kLayout);
    visit("runtime.tune", self.tune,
          "on a GPU, time each product's algorithms at the start; RUN/products.txt keeps the choice", Change::kLayout);
    visit("runtime.offload", self.offload,
          "on a GPU, the optimizer's moments stay in the host's memory: 8 bytes a parameter less on the GPU, and an "
          "update as slow as the bus",
          Change::kLayout);
  }
};

/// validate.every before it is resolved: as often as it costs little.
inline constexpr std::int64_t kValidateAutomatic = -1;

/// What is kept and shown. Keys `checkpoint.*`, `validate.*`, `log.*`, `sample.*`, `progress`.
struct ObserveConfig {
  std::int64_t checkpoint_every = 200;
  int checkpoint_keep = 3;
  std::int64_t validate_every = kValidateAutomatic;
  std::int64_t validate_tokens = 131072;
  std::int64_t log_every = 1;
  std::int64_t sample_every = 0;
  int sample_tokens = 48;
  std::string progress = "auto";

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("checkpoint.every", self.checkpoint_every,
          "steps between saves; the last step is always saved; 0: only the last", Change::kObserving);
    visit("checkpoint.keep", self.checkpoint_keep, "newest checkpoints that stay, beside the best", Change::kObserving);
    visit(
        "validate.every", self.validate_every,
        "steps between validations; the planned last step is validated too; 0: never; -1: the smallest multiple of 100 "
        "at which validation is at most 2 % of all operations",
        Change::kObserving);
    visit("validate.tokens", self.validate_tokens, "tokens of the fixed validation set; fewer when there are fewer",
          Change::kObserving);
    visit("log.every", self.log_every, "steps between printed lines", Change::kObserving);
    visit("sample.every", self.sample_every,
          "steps between printed greedy continuations, where mesh.tensor is 1; 0: none", Change::kObserving);
    visit("sample.tokens", self.sample_tokens, "tokens of such a continuation", Change::kObserving);
    visit("progress", self.progress,
          "redraw one line (on), print lines (off), or auto: on for one process on a terminal", Change::kObserving);
  }
};

/// Faults on demand, for tests of what must then happen. Keys `fault.*`.
struct FaultConfig {
  std::int64_t nan_step = 0;
  int nan_rank = 0;
  std::int64_t kill_step = 0;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("fault.nan_step", self.nan_step, "for tests: put a NaN into the gradient of this step; 0: never",
          Change::kObserving);
    visit("fault.nan_rank", self.nan_rank, "for tests: on this rank", Change::kObserving);
    visit("fault.kill_step", self.kill_step, "for tests: die by SIGKILL in the middle of this step; 0: never",
          Change::kObserving);
  }
};

/// Keys that all say how long a run is; the one given last counts.
inline const std::vector<std::string> kLengthKeys = {"train.steps", "train.tokens", "train.epochs"};

/// What a run has behind it before its first step here: all 0 but for a checkpoint's.
struct Progress {
  std::int64_t steps = 0;
  std::int64_t tokens = 0;     ///< consumed
  std::int64_t sequences = 0;  ///< of this run's data
};

/// Everything that `train` can be told.
struct RunConfig {
  ModelConfig model;
  DataConfig data;
  TrainConfig train;
  OptimConfig optim;
  NumericsConfig numerics;
  LayoutConfig layout;
  ObserveConfig observe;
  FaultConfig fault;

  void add_to(Fields& fields);
  /// Errors   Fault::kConfig for a value that can be refused without looking at anything else.
  void check() const;
  /// Puts every default that depends on another key in place, and checks what can be checked without data.
  /// `sequences_per_epoch` turns train.epochs into steps; `validation_tokens` are those of the data's validation split,
  /// where it is known; `done` counts towards train.tokens and train.epochs. Errors: Fault::kConfig.
  void resolve(std::int64_t sequences_per_epoch,
               std::int64_t validation_tokens = std::numeric_limits<std::int64_t>::max(), const Progress& done = {});
  /// What is allowed and yet seldom meant, one sentence each; after resolve().
  std::vector<std::string> warnings() const;
  /// Takes from the device that computes what keys mean on it.
  void computes_on(const KernelTable& kernels) {
    native_bf16 = kernels.native_bf16, on_host = kernels.memory->is_host();
  }
  bool native_bf16 = cpu_kernels().native_bf16;
  bool on_host = true;  ///< its memory is the host's
  std::string
      compute_kept;  ///< on resume: what numerics.compute = auto meant when the run began; empty: what it means here
  DType compute() const;        ///< what numerics.compute stands for here. Errors: Fault::kConfig for another word
  Recompute recompute() const;  ///< what train.recompute stands for. Errors: as compute

 private:
  void resolve_steps(std::int64_t sequences_per_epoch, const Progress& done);
  std::int64_t validate_every_at_little_cost(std::int64_t validation_tokens) const;
};

}  // namespace slipway
