// The training step, validation, and the state that a checkpoint holds.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "comm/mesh.hpp"
#include "io/checkpoint/checkpoint.hpp"
#include "src/config/run_config.hpp"
#include "src/core/host_mirror.hpp"
#include "src/data/loader.hpp"
#include "src/model/model.hpp"
#include "src/monitor/step_report.hpp"
#include "src/optim/lr_schedule.hpp"
#include "src/optim/reduction_slots.hpp"
#include "src/optim/step_update.hpp"

namespace slipway {

/// Trains one model on this rank's part of every step.
///
/// A step is queued first and reported later: on a GPU the next one may be under way by then.
///
/// Ranks    step, report, validate, load are collective over the whole mesh.
class Trainer {
 public:
  Trainer(const RunConfig& config, Model& model, const Backend& backend, Loader& loader, const Loader* validation,
          Mesh& mesh, Group& world_group);

  /// `before_update` is called on each rank before the memory that slices() refers to changes; until then it is
  /// constant. It is not called where slices() returned copies.
  void step(const std::function<void()>& before_update = [] {});
  /// What the earliest step did that was not reported. Waits until it has ended.
  /// Errors   Fault::kNumeric when it was not finite: neither it nor any step after it has touched the weights.
  StepReport report();
  /// How many queued steps may await their report while more are queued.
  int max_pending_steps() const { return backend_.memory->is_host() ? 0 : 1; }
  /// Mean loss over the fixed validation set, in nats per target; the same bits on any number of data ranks.
  double validate();

  std::int64_t steps_done() const { return step_; }  ///< or queued
  const ReductionSlots& slots() const { return slots_; }

  /// This rank's part of a checkpoint: weights and moments of the arena that it owns; from a device's memory, as
  /// copies that stay until the next call.
  std::vector<SliceView> slices();
  /// Continues from a checkpoint that any layout wrote, whose moments began at `moments_start_step`; without
  /// `load_optimizer_state`, from its weights alone, and moments begin at zero. Returns how many bytes of numbers this
  /// rank has taken from it.
  std::uint64_t load(CheckpointReader& reader, std::int64_t step, std::int64_t moments_start_step = 0,
                     bool load_optimizer_state = true);
  /// The steps that were done when the optimizer's moments were zero: 0, but for a run that another optimizer has
  /// begun.
  std::int64_t moments_start_step() const { return moments_start_step_; }

 private:
  /// What one step is fed.
  struct StepBatches {
    std::vector<Batch> micro_batches;  ///< this rank's, in order
    double weight_sum = 0;             ///< of the loss weights of all micro-batches and data ranks
    std::int64_t targets = 0;          ///< targets with a loss weight above 0, of all as well
    std::string sha256;                ///< one hash of the hashes of all micro-batches of all data ranks, in order
  };
  /// What is known of a step when it is queued.
  struct PendingStep {
    std::int64_t step = 0, targets = 0;
    double weight_sum = 0, lr = 0;
    std::string batch_sha256;
  };
  [[noreturn]] void throw_non_finite(std::int64_t step, double loss, const StepStatsView& stats);
  /// Reads this rank's micro-batches of the next step. Collective over the data group. Errors: as next_sequences().
  const StepBatches& read_step();
  void inject_faults();

  const RunConfig& config_;
  Model& model_;
  const Backend& backend_;
  Loader& loader_;
  const Loader* validation_;  // null: nothing to validate on
  Mesh& mesh_;
  Group& world_group_;
  ReductionSlots slots_;
  LrSchedule schedule_;
  StepUpdate update_;
  std::deque<PendingStep> pending_;
  HostMirror host_mirror_;
  StepBatches batches_;  // of the step under work; their memory is reused
  std::int64_t step_ = 0;
  std::int64_t moments_start_step_ = 0;
};

}  // namespace slipway
