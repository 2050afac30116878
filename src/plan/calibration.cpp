#include "src/plan/calibration.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "src/core/clock.hpp"
#include "src/core/host_mirror.hpp"
#include "src/core/log.hpp"
#include "src/core/random.hpp"
#include "src/data/packing.hpp"
#include "src/model/model_tensors.hpp"
#include "src/optim/reduction_slots.hpp"
#include "src/optim/step_update.hpp"
#include "src/plan/device_memory_check.hpp"
#include "src/plan/plan.hpp"

namespace slipway {
namespace {

constexpr int kMinRepetitions = 3;      // of anything that is measured: the middle of three
constexpr double kUpdatesShare = 0.25;  // of the seconds, for what is done once a step
constexpr double kSafety = 0.85;        // of the seconds that a depth may be planned for: the first pass is slower

/// The mean of the middle half, of three the middle one: near the mean, which a step's sum of micro-batches follows,
/// without the odd one out. Of at least one value.
double interquartile_mean(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t cut = values.size() < 4 ? (values.size() - 1) / 2 : values.size() / 4;
  double sum = 0;
  for (std::size_t i = cut; i < values.size() - cut; ++i) sum += values[i];
  return sum / static_cast<double>(values.size() - 2 * cut);
}

double spread_of(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t n = values.size();
  return (values[n - 1 - n / 4] - values[n / 4]) / values[n / 2];
}

ModelSpec with_layers(ModelSpec model, int layers) {
  model.layers = layers;
  return model;
}

/// Random ids, every sequence one document.
Batch random_batch(const ModelSpec& model, int sequences, int tokens) {
  Batch batch;
  synthetic_batch(sequences, tokens, batch);
  const Random random(1, stream_of("calibration"));
  const auto vocabulary = static_cast<std::uint64_t>(model.vocabulary);
  for (std::size_t r = 0; r < batch.ids.size(); ++r) {
    batch.ids[r] = static_cast<int>(random.uniform_int(vocabulary, 2 * r));
    batch.targets[r] = static_cast<int>(random.uniform_int(vocabulary, 2 * r + 1));
  }
  return batch;
}

/// A model of some depth with all that a step works on.
class BenchmarkModel {
 public:
  BenchmarkModel(const RunConfig& config, const ModelSpec& spec, int data_parallel_size, const Backend& backend,
                 Mesh& mesh, Group& world_group, const Loader* loader)
      : config_(config),
        backend_(backend),
        world_group_(world_group),
        loader_(loader),
        slots_(ReductionSlots::make(config.train.batch, config.train.micro_batch, config.numerics.slots,
                                    data_parallel_size)),
        model_(spec, backend, *mesh.tensor,
               {.compute_dtype = config.compute_dtype(),
                .slots = config.numerics.slots,
                .recompute = config.recompute(),
                .use_cuda_graphs = config.parallel.graphs}),
        update_(config.optim, model_.parameters(), backend, mesh, slots_, config.parallel.offload) {
    // Small numbers of either sign; drawing millions of normal ones would take longer than what is measured.
    std::uint32_t bits = 1;
    HostMirror mirror(*backend.memory);
    const std::span<float> values = model_.parameters().values();
    for (float& value : std::span(mirror.host_view(values), values.size())) {
      bits = bits * 1664525u + 1013904223u;  // Numerical Recipes, "quick and dirty" generator
      value = (static_cast<float>(bits >> 8) * 0x1p-24f - 0.5f) * 0.1f;
    }
    mirror.write_back();
    model_.update_compute_copy();
    model_.parameters().enable_gradients();
  }

  /// Seconds of the next micro-batch, of `sequences`, as Trainer::step does it.
  double time_micro_batch(int sequences) {
    const double begin_s = now_s();
    read(sequences);
    static_cast<void>(batch_hash(batch_));
    model_.forward(batch_, 1.0f / static_cast<float>(batch_.size()), update_.loss_sum(0));
    model_.backward();
    backend_.memory->synchronize();
    return now_s() - begin_s;
  }

  double time_validation(int sequences) {
    const double begin_s = now_s();
    read(sequences);
    model_.loss(batch_, update_.loss_sum(0));
    backend_.memory->synchronize();
    return now_s() - begin_s;
  }

  /// What comes once a step, with gradients that are there.
  StepParts time_update() {
    StepParts parts;
    double begin_s = now_s();
    const auto lap = [&] {
      backend_.memory->synchronize();
      const double end_s = now_s();
      return end_s - std::exchange(begin_s, end_s);
    };
    for (int slot = 0; slot < slots_.slots_per_rank(); ++slot) update_.finish_slot();
    parts.slots_s = lap();
    update_.check_finite();
    parts.update_s = lap();
    world_group_.barrier();  // the slowest rank's lag is in its own parts
    lap();
    update_.reduce_gradients();
    parts.reduce_s = lap();
    update_.apply(step_++, /*lr=*/0);
    update_.report();
    parts.update_s += lap();
    return parts;
  }

 private:
  void read(int sequences) {
    if (loader_ == nullptr) {
      if (batch_.sequences != sequences) batch_ = random_batch(model_.spec(), sequences, config_.train.sequence);
      return;
    }
    loader_->sequences(next_sequence_, sequences, batch_);
    next_sequence_ += static_cast<std::uint64_t>(sequences);
  }

  const RunConfig& config_;
  const Backend& backend_;
  Group& world_group_;
  const Loader* loader_;
  ReductionSlots slots_;
  Model model_;
  StepUpdate update_;
  Batch batch_;
  std::uint64_t next_sequence_ = 0;
  std::int64_t step_ = 0;
};

/// Measured times of one model, for each part of a step.
struct Timings {
  std::vector<double> micro_batch_s, validation_s, slots_s, reduce_s, update_s;

  void add(const StepParts& parts) {
    slots_s.push_back(parts.slots_s);
    reduce_s.push_back(parts.reduce_s);
    update_s.push_back(parts.update_s);
  }
  StepParts parts() const {
    const auto mean_of = [](const std::vector<double>& values) {
      return values.empty() ? 0 : interquartile_mean(values);
    };
    return {mean_of(micro_batch_s), mean_of(slots_s), mean_of(reduce_s), mean_of(update_s), mean_of(validation_s)};
  }
};

/// The course of one calibration.
class CalibrationRun {
 public:
  CalibrationRun(const RunConfig& config, const ModelSpec& model, int data_parallel_size, const Backend& backend,
                 Mesh& mesh, Group& world_group, const Loader* loader, const CalibrationLimit& limit)
      : config_(config),
        model_(model),
        data_parallel_size_(data_parallel_size),
        backend_(backend),
        mesh_(mesh),
        world_group_(world_group),
        loader_(loader),
        limit_(limit),
        device_free_bytes_(backend.memory->is_host()
                               ? 0
                               : -world_group.all_reduce_max(-static_cast<double>(backend.memory->free_bytes()))) {}

  Calibration run();

 private:
  /// Seconds since the calibration began, the same on all ranks.
  double elapsed_s() {
    const double seconds = world_group_.all_reduce_max(now_s() - begin_s_);
    progress_(seconds, limit_.seconds);
    return seconds;
  }
  double slowest(double seconds) { return world_group_.all_reduce_max(seconds); }
  std::unique_ptr<BenchmarkModel> benchmark_model(int layers) {
    return std::make_unique<BenchmarkModel>(config_, with_layers(model_, layers), data_parallel_size_, backend_, mesh_,
                                            world_group_, loader_);
  }
  bool validates() const { return config_.reporting.validate_every > 0; }
  int max_layers(double micro_batch_s, double once_s) const;
  void measure(BenchmarkModel& benchmark_model, Timings& times, int sequences);

  const RunConfig& config_;
  const ModelSpec& model_;
  int data_parallel_size_;
  const Backend& backend_;
  Mesh& mesh_;
  Group& world_group_;
  const Loader* loader_;
  CalibrationLimit limit_;
  double device_free_bytes_;  // bytes at the start, of the rank with least; 0: the numbers lie in the host's memory
  log::Progress progress_{"calibrate"};
  double begin_s_ = now_s();
};

double total(const StepParts& once) { return once.slots_s + once.reduce_s + once.update_s; }

/// The most layers whose passes fit into what is left of the limit, given what one layer takes.
int CalibrationRun::max_layers(double micro_batch_s, double once_s) const {
  const double left_s = kSafety * (limit_.seconds - (now_s() - begin_s_));
  const auto flops = [&](int layers) {
    const ModelSpec m = with_layers(model_, layers);
    return training_flops(m, config_.train.sequence) + attention_flops(m, config_.train.sequence, 1);
  };
  const auto fits_limits = [&](int layers) {
    const ModelSpec m = with_layers(model_, layers);
    const double larger = static_cast<double>(parameter_count(m, true)) /
                          static_cast<double>(parameter_count(with_layers(model_, 1), true));
    const double micro_s = micro_batch_s * flops(layers) / flops(1),
                 seconds = (1 + kMinRepetitions) * (micro_s + larger * once_s) +
                           (layers < model_.layers ? kMinRepetitions * micro_batch_s : 0);
    return seconds < left_s && plan_rank(config_, m, mesh_.data->size()).memory.total() < limit_.bytes;
  };
  // On a device two models side by side may take more than the whole one, which fits.
  const auto bytes = [&](int layers) {
    return static_cast<double>(peak_device_bytes(config_, with_layers(model_, layers), data_parallel_size_));
  };
  const auto fits_device = [&](int layers) {
    return device_free_bytes_ == 0 || layers == model_.layers || bytes(layers) + bytes(1) <= device_free_bytes_;
  };
  const auto fits_all = [&](int layers) { return fits_limits(layers) && fits_device(layers); };
  if (model_.layers <= 2 || fits_all(model_.layers)) return model_.layers;
  int layers = 2, too_many = model_.layers;  // more layers take more time and memory
  while (too_many - layers > 1) {
    const int mid = layers + (too_many - layers) / 2;
    (fits_all(mid) ? layers : too_many) = mid;
  }
  return fits_device(layers) ? layers : model_.layers;
}

/// One round of what is timed; what comes once a step only while it has not had its share of the time.
void CalibrationRun::measure(BenchmarkModel& benchmark_model, Timings& times, int sequences) {
  times.micro_batch_s.push_back(benchmark_model.time_micro_batch(sequences));
  double once_s = 0, micro_s = 0;
  for (std::size_t i = 0; i < times.slots_s.size(); ++i)
    once_s += times.slots_s[i] + times.reduce_s[i] + times.update_s[i];
  for (const double seconds : times.micro_batch_s) micro_s += seconds;
  const bool measure_update = times.slots_s.size() < 2 || once_s < kUpdatesShare * (once_s + micro_s);
  if (slowest(measure_update ? 1 : 0) > 0) times.add(benchmark_model.time_update());
  if (validates() && times.validation_s.size() < kMinRepetitions)
    times.validation_s.push_back(benchmark_model.time_validation(sequences));
}

Calibration CalibrationRun::run() {
  Calibration result;
  // One layer, to learn what can be afforded: one sequence twice, since the first pass makes code and takes memory.
  auto shallow_model = benchmark_model(1);
  double one_sequence_s = shallow_model->time_micro_batch(1);
  one_sequence_s = slowest(std::min(one_sequence_s, shallow_model->time_micro_batch(1)));
  const double affordable_sequences = limit_.seconds / 10 / one_sequence_s;  // a tenth of the time for a layer's pass
  result.sequences = std::clamp(static_cast<int>(std::min(affordable_sequences, 1e6)), 1, config_.train.micro_batch);
  shallow_model->time_micro_batch(result.sequences);
  shallow_model->time_update();
  Timings shallow_times, deep_times;
  shallow_times.micro_batch_s.push_back(shallow_model->time_micro_batch(result.sequences));
  const StepParts once = shallow_model->time_update();
  shallow_times.add(once);
  result.layers =
      static_cast<int>(world_group_.all_reduce_max(-max_layers(shallow_times.micro_batch_s.front(), total(once)))) * -1;

  const bool is_full_model = result.layers >= model_.layers;
  std::unique_ptr<BenchmarkModel> deep_model;
  if (is_full_model) shallow_model.reset();  // its memory is wanted
  deep_model = is_full_model && model_.layers == 1 ? benchmark_model(1) : benchmark_model(result.layers);
  deep_model->time_micro_batch(result.sequences);
  deep_model->time_update();
  if (validates()) deep_model->time_validation(result.sequences);
  const double rounds_begin_s = elapsed_s();
  for (int round = 1;; ++round) {
    measure(*deep_model, deep_times, result.sequences);
    if (!is_full_model) measure(*shallow_model, shallow_times, result.sequences);
    const double total_s = elapsed_s(), round_s = (total_s - rounds_begin_s) / round;
    if (round >= kMinRepetitions && total_s + round_s > limit_.seconds) break;
  }

  const double extra_depth_ratio =
                   is_full_model ? 0 : static_cast<double>(model_.layers - result.layers) / (result.layers - 1),
               scale = static_cast<double>(config_.train.micro_batch) / result.sequences;
  const StepParts shallow_parts = shallow_times.parts(), deep_parts = deep_times.parts();
  const auto extrapolate = [&](double StepParts::*part, double times) {
    const double measured = deep_parts.*part;  // a deeper model is no faster, whatever noise says
    return slowest(
        times * (measured + extra_depth_ratio * std::max(0.0, measured - (is_full_model ? 0 : shallow_parts.*part))));
  };
  result.parts = {.micro_batch_s = extrapolate(&StepParts::micro_batch_s, scale),
                  .slots_s = extrapolate(&StepParts::slots_s, 1),
                  .reduce_s = extrapolate(&StepParts::reduce_s, 1),
                  .update_s = extrapolate(&StepParts::update_s, 1),
                  .validation_s = extrapolate(&StepParts::validation_s, scale)};
  result.micro_batches = static_cast<int>(deep_times.micro_batch_s.size());
  result.relative_spread = slowest(spread_of(deep_times.micro_batch_s));
  result.seconds = elapsed_s();
  return result;
}

}  // namespace

Calibration calibrate(const RunConfig& config, const ModelSpec& model, int data_parallel_size, const Backend& backend,
                      Mesh& mesh, Group& world_group, const Loader* loader, const CalibrationLimit& limit) {
  return CalibrationRun(config, model, data_parallel_size, backend, mesh, world_group, loader, limit).run();
}

Json to_json(const Calibration& calibration) {
  const StepParts& parts = calibration.parts;
  return {{"layers", calibration.layers},
          {"sequences", calibration.sequences},
          {"micro_batches", calibration.micro_batches},
          {"spread", calibration.relative_spread},
          {"seconds", calibration.seconds},
          {"part_seconds",
           {{"micro_batch", parts.micro_batch_s},
            {"slots", parts.slots_s},
            {"reduce", parts.reduce_s},
            {"update", parts.update_s},
            {"validation_micro_batch", parts.validation_s}}}};
}

}  // namespace slipway
