// An estimate of a run (seconds a step, bytes a rank), and what was measured. RUN/plan.json holds both.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "src/data/corpus.hpp"
#include "src/plan/calibration.hpp"
#include "src/plan/plan.hpp"

namespace slipway {

/// What a rank's process takes that the plan of the model does not count.
struct ProcessMemory {
  std::uint64_t program = 0;  ///< resident before the model is made: code, libraries, tokenizer, backend's scratch
  std::uint64_t data = 0;     ///< pages of token shards that the run will have touched
  std::uint64_t saving = 0;   ///< HDF5 and the manifest with its tokenizer, beside the staged numbers
  std::uint64_t total() const { return program + data + saving; }
};

/// Pages of the data folder that come in while one of `data_parallel_size` ranks reads its part of `steps` steps.
std::uint64_t data_page_bytes(const Corpus& corpus, const RunConfig& config, std::int64_t steps,
                              int data_parallel_size);

/// What a save takes on rank 0, which writes the index of all ranks.
std::uint64_t save_buffer_bytes(const ModelSpec& model);

/// Time and memory that a run is expected to take. Times only after a calibration.
struct RunEstimate {
  RunPlan plan;
  ProcessMemory process;
  std::uint64_t peak_device_bytes = 0;  ///< of a GPU's memory, the most at once; 0 on the CPU
  std::optional<Calibration> calibration;
  double step_seconds = 0;  ///< of one optimizer step
  double tokens_per_s = 0;
  double run_seconds = 0;  ///< all steps and validations; saves go on behind them
  std::uint64_t peak_resident_bytes() const { return plan.memory.total() + process.total(); }
};

/// `config` is resolved; `steps` of it are still to be done. `corpus` may be null: what is known without one.
/// `program_bytes`: resident without a model.
RunEstimate estimate_run(const RunConfig& config, const ModelSpec& model, int data_parallel_size, const Corpus* corpus,
                         std::int64_t steps, std::uint64_t program_bytes,
                         const std::optional<Calibration>& calibration);

/// The same with measurements: calibrates on these ranks where train.calibrate_s says so and there are steps to do, and
/// measures the process's memory. Models of fewer layers are measured where memory does not suffice: of `local_size`
/// ranks each may take its share of what this host has free.
/// Ranks    collective over the mesh; world_group = mesh.data x mesh.tensor.
RunEstimate measure_and_estimate(const RunConfig& config, const ModelSpec& model, const Backend& backend, Mesh& mesh,
                                 Group& world_group, int local_size, const Corpus* corpus, std::int64_t steps);

/// Bytes that a calibration may take on each of `local_size` ranks of this host.
std::uint64_t calibration_bytes(int local_size);

/// What a run's steps took: what the estimate is compared with.
class MeasuredRun {
 public:
  /// From now on the process's peak is the training's, where the system lets it be counted anew.
  MeasuredRun();
  /// A step has ended. The first ones take memory and make code, and are left out.
  void add(double seconds) { seconds_.push_back(seconds); }
  /// Ranks    collective.
  void finish(Group& world_group, const Backend& backend);

  std::int64_t steps() const { return static_cast<std::int64_t>(seconds_.size()); }
  double step_seconds = 0;                ///< median; 0: too few steps
  std::uint64_t peak_resident_bytes = 0;  ///< of the rank with most of it, since the outcome was made
  std::uint64_t device_peak_bytes = 0;    ///< of a GPU's memory, of the rank with most; 0 on the CPU
  std::uint64_t peak_before_bytes = 0;    ///< the same before: rehearsal, calibration

 private:
  std::vector<double> seconds_;
};

Json to_json(const RunEstimate& estimate);
/// The estimate as one sentence: `a step takes 1.25 s (3277 tokens/s), the run 21m05s, from 10s of measuring with a
/// spread of 3 %; 683.9 MiB a rank`.
std::string summary_of(const RunEstimate& estimate);

/// Writes RUN/plan.json: the estimate, and what was measured once it is known. Errors: Fault::kStorage.
void write_plan(const std::filesystem::path& run, const RunEstimate& estimate, const MeasuredRun* outcome);

}  // namespace slipway
