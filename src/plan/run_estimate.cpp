#include "src/plan/run_estimate.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "comm/watchdog.hpp"
#include "src/core/clock.hpp"
#include "src/core/file.hpp"
#include "src/core/memory.hpp"
#include "src/model/model_tensors.hpp"
#include "src/plan/device_memory_check.hpp"

namespace slipway {
namespace {

constexpr std::size_t kWarmupSteps = 2;      // of a process, not counted: they take memory and make code
constexpr double kBlockBytes = 1 << 20;      // of a shard, checked and so touched as a whole (io/data/token_shard.cpp)
constexpr double kBlocksPerSequence = 1.25;  // a sequence that lies across two blocks, or in several documents

/// Validations of a run's steps, the last one included.
std::int64_t validations(const RunConfig& config, std::int64_t steps) {
  const std::int64_t every = config.reporting.validate_every;
  return every == 0 || steps == 0 ? 0 : (steps - 1) / every + 1;
}

double validation_micro_batches(const RunConfig& config, const Corpus* corpus) {
  const double T = config.train.sequence;
  double tokens = static_cast<double>(config.reporting.validate_tokens);
  if (corpus != nullptr) tokens = std::min(tokens, static_cast<double>(corpus->tokens(Split::kValidation)));
  return std::ceil(std::ceil(tokens / T) / config.train.micro_batch);
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace

std::uint64_t data_page_bytes(const Corpus& corpus, const RunConfig& config, std::int64_t steps,
                              int data_parallel_size) {
  const auto touched_bytes = [&](Split split, double sequences) {
    double bytes = 0;
    for (const TokenShard& shard : corpus.shards(split))
      bytes += static_cast<double>(shard.info().tokens) * shard.info().token_bytes();
    const double blocks = std::max(1.0, std::ceil(bytes / kBlockBytes));
    return bytes * (1 - std::pow(1 - 1 / blocks, kBlocksPerSequence * sequences));  // of blocks drawn at random
  };
  const double R = data_parallel_size,
               validation = validation_micro_batches(config, &corpus) * config.train.micro_batch;
  double sum = touched_bytes(Split::kTrain, static_cast<double>(steps) * config.train.batch / R);
  if (validations(config, steps) > 0) sum += touched_bytes(Split::kValidation, validation / R);
  return static_cast<std::uint64_t>(sum);
}

std::uint64_t save_buffer_bytes(const ModelSpec& model) {
  // Measured from the resident size before and after a first save: models of 4 and 12 layers, vocabularies of 1,200,
  // 16,384 and 50,304.
  constexpr std::uint64_t kBytesPerDataset = 34 << 10, kBytesPerToken = 300, kKinds = 3;
  const std::size_t tensors = tensors_of(model).size();
  return kBytesPerDataset * kKinds * tensors + kBytesPerToken * static_cast<std::uint64_t>(model.vocabulary);
}

RunEstimate estimate_run(const RunConfig& config, const ModelSpec& model, int data_parallel_size, const Corpus* corpus,
                         std::int64_t steps, std::uint64_t program_bytes,
                         const std::optional<Calibration>& calibration) {
  RunEstimate result{
      .plan = plan_run(config, model, data_parallel_size),
      .process = {program_bytes, corpus ? data_page_bytes(*corpus, config, steps, data_parallel_size) : 0,
                  save_buffer_bytes(model)},
      .calibration = calibration};
  if (!calibration) return result;
  const StepParts& parts = calibration->parts;
  const double R = data_parallel_size, micro_batches = std::ceil(config.train.batch / (R * config.train.micro_batch)),
               tokens = static_cast<double>(config.train.batch) * config.train.sequence;
  result.step_seconds = micro_batches * parts.micro_batch_s + parts.slots_s + parts.reduce_s + parts.update_s;
  result.tokens_per_s = tokens / result.step_seconds;
  result.run_seconds = static_cast<double>(steps) * result.step_seconds +
                       static_cast<double>(validations(config, steps)) *
                           std::ceil(validation_micro_batches(config, corpus) / R) * parts.validation_s;
  return result;
}

std::uint64_t calibration_bytes(int local_size) {
  constexpr double kShare = 0.8;  // of what is free
  return static_cast<std::uint64_t>(kShare * static_cast<double>(available_memory_bytes()) / local_size);
}

RunEstimate measure_and_estimate(const RunConfig& config, const ModelSpec& model, const Backend& backend, Mesh& mesh,
                                 Group& world_group, int local_size, const Corpus* corpus, std::int64_t steps) {
  std::optional<Calibration> calibration;
  if (config.train.calibrate_s > 0 && steps > 0) {
    set_watchdog_note("calibration");
    std::optional<Loader> loader;
    if (corpus != nullptr)
      loader.emplace(*corpus, Split::kTrain, config.data, config.train.sequence, config.train.seed);
    calibration = calibrate(config, model, mesh.data->size(), backend, mesh, world_group, loader ? &*loader : nullptr,
                            {config.train.calibrate_s, calibration_bytes(local_size)});
  }
  release_free_memory();
  if (corpus != nullptr) corpus->release_pages();  // what a calibration has read of it is counted with the run's
  // What a first step brings in where no calibration has: code of libraries, the backend's scratch. Measured.
  constexpr std::uint64_t kFirstStepBytes = std::uint64_t{6} << 20;
  const std::uint64_t local_bytes = resident_bytes() + (calibration ? 0 : kFirstStepBytes);
  const auto program_bytes = static_cast<std::uint64_t>(world_group.all_reduce_max(static_cast<double>(local_bytes)));
  RunEstimate estimate = estimate_run(config, model, mesh.data->size(), corpus, steps, program_bytes, calibration);
  if (!backend.memory->is_host()) estimate.peak_device_bytes = peak_device_bytes(config, model, mesh.data->size());
  return estimate;
}

MeasuredRun::MeasuredRun() : peak_before_bytes(slipway::peak_resident_bytes()) { reset_peak_resident(); }

void MeasuredRun::finish(Group& world_group, const Backend& backend) {
  const auto max_over_ranks = [&](std::uint64_t bytes) {
    return static_cast<std::uint64_t>(world_group.all_reduce_max(static_cast<double>(bytes)));
  };
  peak_resident_bytes = max_over_ranks(slipway::peak_resident_bytes());
  peak_before_bytes = max_over_ranks(peak_before_bytes);
  device_peak_bytes = max_over_ranks(backend.memory->peak_bytes());
  if (seconds_.size() > kWarmupSteps) step_seconds = median({seconds_.begin() + kWarmupSteps, seconds_.end()});
}

Json to_json(const RunEstimate& estimate) {
  Json json = to_json(estimate.plan);
  json["memory_bytes"]["program"] = estimate.process.program;
  json["memory_bytes"]["data_pages"] = estimate.process.data;
  json["memory_bytes"]["saving"] = estimate.process.saving;
  json["predicted"] = {{"peak_resident_bytes", estimate.peak_resident_bytes()}};
  if (estimate.peak_device_bytes > 0) json["predicted"]["device_peak_bytes"] = estimate.peak_device_bytes;
  if (!estimate.calibration) return json;
  json["predicted"]["step_seconds"] = estimate.step_seconds;
  json["predicted"]["tokens_per_s"] = estimate.tokens_per_s;
  json["predicted"]["run_seconds"] = estimate.run_seconds;
  json["calibration"] = to_json(*estimate.calibration);
  return json;
}

std::string summary_of(const RunEstimate& estimate) {
  const std::string memory = estimate.peak_device_bytes > 0
                                 ? join(human_bytes(static_cast<double>(estimate.peak_device_bytes)), " of a GPU")
                                 : join(human_bytes(static_cast<double>(estimate.peak_resident_bytes())), " a rank");
  if (!estimate.calibration) return memory;
  char times[64];
  std::snprintf(times, sizeof times, "a step takes %.3g s (%.0f tokens/s)", estimate.step_seconds,
                estimate.tokens_per_s);
  return join(times, ", the run ", human_time(estimate.run_seconds), ", from ",
              human_time(estimate.calibration->seconds), " of measuring with a spread of ",
              std::lround(100 * estimate.calibration->relative_spread), " %; ", memory);
}

void write_plan(const std::filesystem::path& run, const RunEstimate& estimate, const MeasuredRun* outcome) {
  Json json = {{"schema", "slipway.plan"}, {"schema_version", 1}};
  json.update(to_json(estimate));
  if (outcome != nullptr) {
    json["measured"] = {{"steps", outcome->steps()},
                        {"peak_resident_bytes", outcome->peak_resident_bytes},
                        {"peak_before_bytes", outcome->peak_before_bytes}};
    if (outcome->device_peak_bytes > 0) json["measured"]["device_peak_bytes"] = outcome->device_peak_bytes;
    if (outcome->step_seconds > 0) json["measured"]["step_seconds"] = outcome->step_seconds;
  }
  atomic_write_file(run / "plan.json", to_pretty(json));
}

}  // namespace slipway
