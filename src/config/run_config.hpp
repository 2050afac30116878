// The configuration of a training run. The keys model.*, data.* and optim.* are declared in their own headers.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "comm/group.hpp"
#include "kernels/backend/cpu_backend.hpp"
#include "src/core/config.hpp"
#include "src/core/dtype.hpp"
#include "src/data/loader.hpp"
#include "src/model/model_config.hpp"
#include "src/model/recompute.hpp"
#include "src/optim/optim_config.hpp"

namespace slipway {

/// Length of the run, sequence length, batch size. Keys `train.*`.
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
  std::string init;          ///< a MODEL, relative to the file that holds this key; empty: from the seed
  std::string fork;          ///< a checkpoint of another run, relative like `init`; empty: the run begins at step 1
  std::string steps_source;  ///< what resolve() took the steps from: "default", "train.tokens 512000"; empty: as given

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("train.steps", self.steps,
          {"optimizer steps; 0: from train.tokens or train.epochs, else 1000", "STEPS", HelpVisibility::kFirst},
          ResumePolicy::kRunLength);
    visit("train.tokens", self.tokens, {"train for this many tokens, instead of train.steps; 0: not set", "TOKENS"},
          ResumePolicy::kRunLength);
    visit("train.epochs", self.epochs,
          {"train for this many passes over the data, instead of train.steps; 0: not set", "EPOCHS"},
          ResumePolicy::kRunLength);
    visit("train.max_minutes", self.max_minutes,
          {"save and stop before this wall-clock time is over; 0: no limit", "MINUTES"}, ResumePolicy::kRunLength);
    visit("train.seed", self.seed, {"seed of the initial weights and of the order of the data", "SEED"});
    visit("train.sequence", self.sequence, {"sequence length in tokens", "TOKENS", HelpVisibility::kFirst});
    visit("train.batch", self.batch,
          {"global batch size: sequences per step over all ranks", "N", HelpVisibility::kFirst});
    visit("train.micro_batch", self.micro_batch,
          {"micro-batch size: sequences that a rank computes at once; gradients are accumulated over the rest; 0: "
           "train.batch divided by its largest power of two up to numerics.slots"});
    visit("train.profile", self.profile,
          {"profile this many steps after the first one: RUN/profile/trace.json for Perfetto, and a table", "STEPS"},
          ResumePolicy::kReporting);
    visit("train.calibrate_s", self.calibrate_s,
          {"measure for about this long before the first step, and write predicted times to RUN/plan.json; 0: memory "
           "only, "
           "which is counted",
           "SECONDS"},
          ResumePolicy::kReporting);
    visit("train.init", self.init,
          {"start from the weights of this model: a run, a checkpoint, a .gguf or a Hugging Face folder", "MODEL"},
          ResumePolicy::kPath);
    visit("train.fork", self.fork,
          {"start from weights, optimizer state and data position of this run or checkpoint", "RUN"},
          ResumePolicy::kPath);
    visit("train.recompute", self.recompute,
          {"activation recomputation in the backward pass: none; norms (outputs of norms and gates: cheap); blocks "
           "(everything but the blocks' inputs: least memory, a third more compute)",
           "none|norms|blocks"},
          ResumePolicy::kLayout);
    visit("train.rehearsal", self.rehearsal,
          {"before step 1, test saving, loading, evaluation and export on the untrained model, so that nothing fails "
           "late"},
          ResumePolicy::kReporting);
  }
};

/// Dtype of matmuls and order of the gradient reduction. Keys `numerics.*`.
struct NumericsConfig {
  std::string compute = "auto";
  int slots = 8;
  std::string reduction = "canonical";

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("numerics.compute", self.compute,
          {"dtype of matmuls; auto: bf16 where the hardware supports it, else f32", "f32|bf16|auto"});
    visit("numerics.slots", self.slots,
          {"reduction slots of a step, a power of two: up to this many data ranks give bit-identical results"});
    visit(
        "numerics.reduction", self.reduction,
        {"gradient reduction: canonical (one fixed order, whatever the number of ranks), or library (NCCL's own order; "
         "GPUs only)",
         "canonical|library"});
  }
  Reduction collective_reduction() const {
    return reduction == "library" ? Reduction::kLibrary : Reduction::kCanonical;
  }
};

/// The mesh of ranks, and the device and threads of each rank. Keys `mesh.*`, `runtime.*` and `device`.
struct ParallelConfig {
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
    visit("mesh.tensor", self.tensor, {"tensor parallel size; the data parallel size is ranks / mesh.tensor"},
          ResumePolicy::kLayout);
    visit("mesh.pipeline", self.pipeline, {"pipeline parallel size; only 1 is supported", "", HelpVisibility::kNever},
          ResumePolicy::kLayout);
    visit("runtime.threads", self.threads, {"CPU threads per rank; 0: the host's cores divided by its ranks"},
          ResumePolicy::kLayout);
    visit("runtime.instructions", self.instructions,
          {"instruction set of the CPU kernels; auto: the best that this CPU has", "base|avx512|avx512_bf16|auto"},
          ResumePolicy::kLayout);
    visit("runtime.watchdog_s", self.watchdog_s,
          {"end all ranks when a collective waits longer than this for a peer; 0: never", "SECONDS"},
          ResumePolicy::kReporting);
    visit("runtime.peak_gflops", self.peak_gflops,
          {"peak GFLOP/s of one rank, which MFU is relative to; 0: measured at the start, and raised where the run is "
           "faster",
           "GFLOPS"},
          ResumePolicy::kReporting);
    visit("device", self.device,
          {"where to compute; auto: a GPU where one can be used, else the CPU", "cpu|cuda|cuda:N|auto"},
          ResumePolicy::kLayout);
    visit("runtime.graphs", self.graphs, {"GPU: launch each micro-batch as a CUDA graph"}, ResumePolicy::kLayout);
    visit("runtime.tune", self.tune,
          {"GPU: time the algorithms of each matmul at the start; RUN/gemm_algorithms.txt keeps the choice"},
          ResumePolicy::kLayout);
    visit("runtime.offload", self.offload,
          {"GPU: keep the optimizer state in host memory; saves 8 bytes per parameter, slows down the update"},
          ResumePolicy::kLayout);
  }
};

/// validate.every before it is resolved: validation takes a small share of the operations (default_validate_every).
inline constexpr std::int64_t kValidateAuto = -1;

/// Checkpoints, validation and logging. Keys `checkpoint.*`, `validate.*`, `log.*`, `sample.*`, `progress`.
struct ReportingConfig {
  std::int64_t checkpoint_every = 200;
  int checkpoint_keep = 3;
  std::int64_t validate_every = kValidateAuto;
  std::int64_t validate_tokens = 131072;
  std::int64_t log_every = 1;
  std::int64_t sample_every = 0;
  int sample_tokens = 48;
  std::string progress = "auto";

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit(
        "checkpoint.every", self.checkpoint_every,
        {"steps between checkpoints; the last step is always saved; 0: only the last", "STEPS", HelpVisibility::kFirst},
        ResumePolicy::kReporting);
    visit("checkpoint.keep", self.checkpoint_keep, {"newest checkpoints to keep, beside the best one"},
          ResumePolicy::kReporting);
    visit("validate.every", self.validate_every,
          {"steps between validations; the last step is validated too; 0: never; -1: the smallest multiple of 100 at "
           "which validation is at most 2 % of all operations",
           "STEPS", HelpVisibility::kFirst},
          ResumePolicy::kReporting);
    visit("validate.tokens", self.validate_tokens,
          {"size of the fixed validation set; fewer where the split has fewer", "TOKENS"}, ResumePolicy::kReporting);
    visit("log.every", self.log_every, {"steps between log lines", "STEPS"}, ResumePolicy::kReporting);
    visit("sample.every", self.sample_every,
          {"steps between greedy samples of text, where mesh.tensor is 1; 0: none", "STEPS"}, ResumePolicy::kReporting);
    visit("sample.tokens", self.sample_tokens, {"length of such a sample", "TOKENS"}, ResumePolicy::kReporting);
    visit("progress", self.progress,
          {"on: redraw one line; off: print lines; auto: on for one process on a terminal", "on|off|auto",
           HelpVisibility::kAll},
          ResumePolicy::kReporting);
  }
};

/// Fault injection, for tests. Keys `fault.*`.
struct FaultConfig {
  std::int64_t nan_step = 0;
  int nan_rank = 0;
  std::int64_t kill_step = 0;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("fault.nan_step", self.nan_step, {"for tests: put a NaN into the gradient of this step; 0: never", "STEP"},
          ResumePolicy::kReporting);
    visit("fault.nan_rank", self.nan_rank, {"for tests: the rank of fault.nan_step", "RANK"}, ResumePolicy::kReporting);
    visit("fault.kill_step", self.kill_step, {"for tests: die of SIGKILL in the middle of this step; 0: never", "STEP"},
          ResumePolicy::kReporting);
  }
};

/// Keys that set the length of a run; the one given last counts.
inline const std::vector<std::string> kRunLengthKeys = {"train.steps", "train.tokens", "train.epochs"};

/// What a run had done before the first step of this process: that of its checkpoint; all 0 for a new run.
struct RunProgress {
  std::int64_t steps = 0;
  std::int64_t consumed_tokens = 0;     ///< consumed
  std::int64_t consumed_sequences = 0;  ///< of this run's data
};

/// All configuration of `train`.
struct RunConfig {
  ModelConfig model;
  DataConfig data;
  TrainConfig train;
  OptimConfig optim;
  NumericsConfig numerics;
  ParallelConfig parallel;
  ReportingConfig reporting;
  FaultConfig fault;

  void add_to(Fields& fields);
  /// Checks each value by itself. Errors: Fault::kConfig.
  void check() const;
  /// Fills in every default that depends on another key, and checks what can be checked without data.
  /// `sequences_per_epoch` converts train.epochs to steps; `validation_tokens` is the size of the data's validation
  /// split, if known; `progress` counts towards train.tokens and train.epochs. Errors: Fault::kConfig.
  void resolve(std::int64_t sequences_per_epoch,
               std::int64_t validation_tokens = std::numeric_limits<std::int64_t>::max(),
               const RunProgress& progress = {});
  /// One sentence for each setting that is valid but rarely intended; after resolve().
  std::vector<std::string> warnings() const;
  /// Sets the properties of the device that keys are resolved with.
  void set_device_properties(const Backend& backend) {
    native_bf16 = backend.native_bf16, on_host = backend.memory->is_host();
  }
  bool native_bf16 = cpu_backend().native_bf16;
  bool on_host = true;  ///< the device's memory is host memory
  std::string
      resumed_compute;  ///< on resume: what numerics.compute = auto meant when the run began; empty: what it means here
  DType compute_dtype() const;  ///< the dtype that numerics.compute selects. Errors: Fault::kConfig for another word
  Recompute recompute() const;  ///< the value of train.recompute. Errors: as compute

 private:
  void resolve_steps(std::int64_t sequences_per_epoch, const RunProgress& progress);
  std::int64_t default_validate_every(std::int64_t validation_tokens) const;
};

}  // namespace slipway
