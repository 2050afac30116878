// slipway plan: what a run will need, before it is run.
#include <bit>
#include <cmath>
#include <iostream>
#include <optional>

#include "io/hdf5.hpp"
#include "kernels/backend/runtime.hpp"
#include "launch/commands/command.hpp"
#include "launch/process/launcher.hpp"
#include "src/config/run_summary.hpp"
#include "src/core/clock.hpp"
#include "src/core/cpus.hpp"
#include "src/core/json.hpp"
#include "src/core/log.hpp"
#include "src/core/memory.hpp"
#include "src/core/words.hpp"
#include "src/data/corpus.hpp"
#include "src/infer/loaded_model.hpp"
#include "src/model/model_tensors.hpp"
#include "src/plan/device_memory_check.hpp"
#include "src/plan/host_memory_check.hpp"
#include "src/plan/roofline.hpp"
#include "src/plan/run_estimate.hpp"

namespace slipway {
namespace {

constexpr Usage kPlanUsage{
    .summary =
        "Counts parameters, operations and memory of a rank for the run that these keys describe. With --calibrate\n"
        "it also measures this machine, and predicts the time of a step and of the run.",
    .synopsis = "slipway plan [--ranks N] [--calibrate] [--gpu GPU] [--json] [--key value]...",
    .example = "slipway plan --model.preset llama-124m --train.sequence 1024 --train.batch 64 --ranks 8",
    .notes =
        "With --calibrate the ranks are threads of this process; under launch/run -n N they are those that will "
        "train."};

struct PlanOptions {
  int ranks = 1;
  int vocabulary = 16384;
  std::string gpu;
  Flag calibrate, json;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("ranks", self.ranks, {"number of ranks: data parallel size x mesh.tensor"});
    visit("vocabulary", self.vocabulary, {"vocabulary size, where no data folder is given"});
    visit("gpu", self.gpu, {"estimate each op of a step on such GPUs, one per rank", "a100|h100|h200|b200"});
    visit("calibrate", self.calibrate,
          "measure this model here for train.calibrate_s seconds (10), and predict step time and memory of a rank");
    visit("json", self.json, "print one JSON object");
  }
};

constexpr double kDefaultCalibration_s = 10;

/// Calibrates with ranks that are threads of this process: as many of the run's ranks as it has CPUs for, but at least
/// two where the run has more than one, so that a reduction is measured.
RunEstimate calibrate_on_threads(const RunConfig& config, const ModelSpec& model, int data_parallel_size,
                                 const Corpus* corpus) {
  // By measurement, MPI_Init adds this much to the resident size of a rank, including buffers shared between ranks.
  constexpr std::uint64_t kMpiBytes = std::uint64_t{8} << 20;
  const int tensor_parallel_size = config.parallel.tensor,
            max_data_ranks = static_cast<int>(
                std::bit_floor(static_cast<unsigned>(std::max(1, available_cpus() / tensor_parallel_size)))),
            local_data_ranks = std::min(data_parallel_size, std::max(2, max_data_ranks)),
            local_ranks = local_data_ranks * tensor_parallel_size;
  if (local_data_ranks < data_parallel_size)
    log::warn(join(data_parallel_size * tensor_parallel_size, " ranks are more than this host holds: measured as ",
                   local_ranks, ", as if all were on hosts like this one with a network as fast as its memory"));
  const Runtime runtime(
      {.instructions = config.parallel.instructions,
       .threads = config.parallel.threads > 0 ? config.parallel.threads : std::max(1, available_cpus() / local_ranks)});

  std::optional<Calibration> calibration;
  std::uint64_t rss_with_ranks = 0;
  run_thread_group(local_ranks, [&](Group& world_group) {
    Mesh mesh = make_thread_mesh(world_group, tensor_parallel_size);
    std::optional<Loader> loader;
    if (corpus != nullptr)
      loader.emplace(*corpus, Split::kTrain, config.data, config.train.sequence, config.train.seed);
    const Calibration rank_calibration =
        calibrate(config, model, data_parallel_size, runtime.backend(), mesh, world_group, loader ? &*loader : nullptr,
                  {config.train.calibrate_s, calibration_bytes(local_ranks)});
    world_group.barrier();
    if (world_group.rank() == 0) {
      release_free_memory();
      if (corpus != nullptr) corpus->release_pages();
      calibration = rank_calibration;
      rss_with_ranks = resident_bytes();
    }
    world_group.barrier();  // until then every rank keeps its scratch memory, which counts in rss_with_ranks
  });
  release_free_memory();
  const std::uint64_t rss_baseline = std::min(resident_bytes(), rss_with_ranks);
  if (local_data_ranks < data_parallel_size && local_data_ranks > 1)
    calibration->parts.reduce_s *=
        (1 - 1.0 / data_parallel_size) / (1 - 1.0 / local_data_ranks);  // proportional to the bytes that a rank sends
  const std::uint64_t program_bytes = rss_baseline +
                                      (rss_with_ranks - rss_baseline) / static_cast<std::uint64_t>(local_ranks) +
                                      (local_ranks > 1 ? kMpiBytes : 0);
  return estimate_run(config, model, data_parallel_size, corpus, config.train.steps, program_bytes, calibration);
}

void print_row(const char* label, const std::string& value) {
  std::cout << "  " << label << std::string(26 - std::string(label).size(), ' ') << value << "\n";
}

std::string format_seconds(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, seconds < 0.1 ? "%.2f ms" : "%.3f s", seconds < 0.1 ? 1e3 * seconds : seconds);
  return text;
}

/// Prints the measurements and the predictions made from them.
void print(const RunEstimate& estimate, const ModelSpec& model, const RunConfig& config) {
  const auto bytes = [](std::uint64_t count) { return human_bytes(static_cast<double>(count)); };
  const Calibration& calibration = *estimate.calibration;
  std::cout << "measured here, in " << human_time(calibration.seconds) << "\n";
  print_row("a micro-batch",
            join(format_seconds(calibration.parts.micro_batch_s), " (", calibration.micro_batches, " of ",
                 calibration.sequences, " sequences, ", calibration.layers, " of ", model.layers, " layers; spread ",
                 std::lround(100 * calibration.relative_spread), " %)"));
  print_row("sums over slots", format_seconds(calibration.parts.slots_s));
  print_row("gradients over ranks", format_seconds(calibration.parts.reduce_s));
  print_row("optimizer, weights", format_seconds(calibration.parts.update_s));
  print_row("program, data, saving", join(bytes(estimate.process.program), ", ", bytes(estimate.process.data), ", ",
                                          bytes(estimate.process.saving)));
  std::cout << "predicted\n";
  print_row("a step", join(format_seconds(estimate.step_seconds), ", ",
                           static_cast<std::int64_t>(estimate.tokens_per_s), " tokens/s"));
  print_row("the run",
            join(human_time(estimate.run_seconds), " for ", config.train.steps, " steps and their validations"));
  print_row("peak memory of a rank", bytes(estimate.peak_resident_bytes()));
}

/// Whether the memory of this host suffices for `budget.ranks` ranks of the run.
struct HostMemoryEstimate {
  HostMemoryBudget budget;
  std::uint64_t rank_bytes = 0;
  std::string shortfall;  ///< empty: they fit
};

HostMemoryEstimate estimate_host_memory(const RunConfig& config, const ModelSpec& model, int data_parallel_size,
                                        int ranks) {
  const HostMemoryBudget budget{ranks, available_memory_bytes()};
  return {budget, host_bytes(config, model, data_parallel_size),
          host_memory_shortfall(config, model, data_parallel_size, budget)};
}

/// Checks that memory suffices for the smallest calibration: one layer and one sequence.
void check_calibration_memory(const RunConfig& config, ModelSpec model, int data_parallel_size) {
  RunConfig min_config = config;
  model.layers = min_config.train.micro_batch = 1;
  check_host_memory(min_config, model, data_parallel_size, {1, available_memory_bytes()});
}

void print(const HostMemoryEstimate& host_memory) {
  const double total_bytes = static_cast<double>(host_memory.rank_bytes) * host_memory.budget.ranks;
  print_row("memory of this host",
            join(human_bytes(total_bytes), " for ", pluralize(host_memory.budget.ranks, "rank"), ", ",
                 human_bytes(static_cast<double>(host_memory.budget.free_bytes)), " free",
                 host_memory.shortfall.empty() ? "" : ": does not fit; " + host_memory.shortfall));
}

Json to_json(const HostMemoryEstimate& host_memory) {
  Json json = {{"ranks", host_memory.budget.ranks},
               {"rank_bytes", host_memory.rank_bytes},
               {"free_bytes", host_memory.budget.free_bytes},
               {"fits", host_memory.shortfall.empty()}};
  if (!host_memory.shortfall.empty()) json["why_not"] = host_memory.shortfall;
  return json;
}

void print(const RunPlan& plan, const ModelSpec& model, const RunConfig& config, int data_parallel_size) {
  const auto bytes = [](std::uint64_t count) { return human_bytes(static_cast<double>(count)); };
  std::cout << model.name << ": " << model.layers << " x " << model.width << ", " << model.heads << " heads ("
            << model.kv_heads << " kv), ffn " << model.ffn << ", vocabulary " << model.vocabulary
            << (model.tied ? ", tied" : "") << "\n";
  print_row("parameters",
            join(parameter_count(model, true), " (", parameter_count(model, false), " without embeddings)"));
  print_row("ranks", join(data_parallel_size, " data x ", config.parallel.tensor, " tensor"));
  std::cout << "memory of a rank\n";
  const MemoryPlan& m = plan.memory;
  print_row("weights, f32", bytes(m.weights));
  if (m.compute_copy != 0) print_row("weights, bf16 copy", bytes(m.compute_copy));
  print_row("gradients", bytes(m.gradients));
  print_row("slots' partial gradients",
            join(bytes(m.slot_partials), " (", plan.slots, " slots; numerics.slots = data ranks makes it least)"));
  print_row(config.optim.is_muon() ? "Muon's, AdamW's moments" : "AdamW's moments", bytes(m.moments));
  if (config.optim.is_muon()) print_row("Muon's whole matrices", bytes(m.orthogonalization));
  print_row("activations", bytes(m.activations));
  print_row("logits, one chunk", bytes(m.logits));
  if (m.other != 0) print_row("messages, samples, other", bytes(m.other));
  print_row("total", bytes(m.total()));
  print_row("checkpoint staging", join("up to ", bytes(m.staging), " more, where a save takes longer than a step"));
  std::cout << "a step\n";
  print_row("matmuls", join(human_count(plan.step_flops), " operations (6 x matmul parameters x tokens)"));
  print_row("attention", join(human_count(plan.step_attention_flops), " operations"));
  if (config.optim.is_muon())
    print_row("Muon's matmuls",
              join(human_count(plan.step_orthogonalization_flops), " operations on the busiest rank"));
  print_row("sent to data ranks", bytes(plan.data_parallel_bytes));
  if (config.parallel.tensor > 1) print_row("sent to tensor ranks", bytes(plan.tensor_parallel_bytes));
  if (config.optim.is_muon())
    print_row("and by Muon", join(bytes(plan.orthogonalization_bytes), ": parts of matrices, there and back"));
  print_row("checkpoint", bytes(plan.checkpoint_bytes));
}

}  // namespace

int command_plan(const Arguments& arguments) {
  PlanOptions options;
  RunConfig config;
  Fields fields;
  fields.add(options);
  config.add_to(fields);
  fields.alias("data", "data.path");
  if (!read_arguments(fields, arguments, kPlanUsage)) return 0;
  arguments.reject_positionals("plan");
  fields.unset_overridden(kRunLengthKeys);
  const bool should_calibrate = options.calibrate || config.train.calibrate_s > 0;
  if (config.train.calibrate_s == 0 && fields.is_set("train.calibrate_s") && options.calibrate)
    throw Error(Fault::kConfig, "--calibrate asks for what --train.calibrate_s 0 forbids: leave one of them out");
  if (options.ranks < 1) throw Error(Fault::kConfig, join("--ranks is ", options.ranks, "; 1 or more is expected"));
  if (options.vocabulary < 1)
    throw Error(Fault::kConfig, join("--vocabulary is ", options.vocabulary, "; 1 or more is expected"));
  if (config.train.calibrate_s == 0 && should_calibrate) config.train.calibrate_s = kDefaultCalibration_s;
  std::optional<World> world;
  const Runtime runtime({.device = config.parallel.device,
                         .local_rank = launcher_info().local_rank,
                         .instructions = config.parallel.instructions,
                         .threads = config.parallel.threads});
  const Backend& backend = runtime.backend();
  config.set_device_properties(backend);
  if (should_calibrate) {
    init_hdf5();  // as a run does, since it adds to the resident size
    if (launcher_info().is_launched || !backend.memory->is_host()) world.emplace();
  }
  if (world) {
    log::set_rank(world->group().rank());
    if (fields.is_set("ranks") && options.ranks != world->group().size())
      throw Error(Fault::kConfig, join("--ranks ", options.ranks, " but ", world->group().size(),
                                       " were started; leave --ranks out, or start plan alone"));
    options.ranks = world->group().size();
  }
  std::optional<DataSizes> sizes;
  std::optional<Corpus> corpus;
  config.check();
  if (!config.data.path.empty()) {
    corpus.emplace(Corpus::open(config.data.path));
    options.vocabulary = corpus->tokenizer().vocabulary_size();
    sizes = sizes_of(*corpus, config);
  }
  if (!sizes && config.train.epochs > 0)
    throw Error(Fault::kConfig,
                "train.epochs is a length only with the data whose epochs are meant: name it with --data DIR");
  if (sizes) config.resolve(sizes->sequences_per_epoch, sizes->validation_tokens);
  else config.resolve(/*sequences_per_epoch=*/1);
  for (const std::string& message : config.warnings()) log::warn(message);
  if (options.ranks < 1 || options.ranks % config.parallel.tensor != 0)
    throw Error(Fault::kConfig, join("--ranks ", options.ranks, " is no multiple of mesh.tensor ",
                                     config.parallel.tensor, "; change one of them"));
  const int data_parallel_size = options.ranks / config.parallel.tensor;
  const ModelSpec model = config.model.spec(options.vocabulary);
  const HostMemoryEstimate host_memory = estimate_host_memory(config, model, data_parallel_size, options.ranks);
  if (should_calibrate || !options.gpu.empty() || !backend.memory->is_host()) check_row_count(config);
  if (should_calibrate && backend.memory->is_host()) check_calibration_memory(config, model, data_parallel_size);
  std::optional<Roofline> gpu_roofline;
  if (!options.gpu.empty()) {
    config.native_bf16 = true;
    gpu_roofline = roofline(config, model, data_parallel_size, gpu_spec(options.gpu));
  }
  const RunPlan plan = plan_run(config, model, data_parallel_size);
  const std::uint64_t device_peak =
      backend.memory->is_host() ? 0 : peak_device_bytes(config, model, data_parallel_size);
  std::optional<RunEstimate> estimate;
  if (world) {
    Mesh mesh = make_mesh(*world, config.parallel.tensor, config.numerics.collective_reduction());
    const Runtime rank_runtime(runtime_options(config.parallel, *world));
    estimate = measure_and_estimate(config, model, rank_runtime.backend(), mesh, world->group(), world->local_size(),
                                    corpus ? &*corpus : nullptr, config.train.steps);
    if (world->group().rank() != 0) return 0;
  } else if (should_calibrate) {
    estimate = calibrate_on_threads(config, model, data_parallel_size, corpus ? &*corpus : nullptr);
  }
  if (!options.json) {
    std::cout << summary_of(config, sizes) << "\n";
    print(plan, model, config, data_parallel_size);
    if (host_memory.rank_bytes > 0) print(host_memory);
    if (device_peak != 0)
      print_row("total on a GPU",
                join(human_bytes(static_cast<double>(device_peak)), " of ", backend.device, ", in one block"));
    if (estimate) print(*estimate, model, config);
    if (gpu_roofline)
      std::cout << "a step on " << gpu_roofline->gpu->full_name << " (docs/gpu.md)\n" << format_table(*gpu_roofline);
    return 0;
  }
  Json json = {{"schema", "slipway.plan"},
               {"schema_version", 1},
               {"model", model.name},
               {"layers", model.layers},
               {"width", model.width},
               {"heads", model.heads},
               {"kv_heads", model.kv_heads},
               {"ffn", model.ffn},
               {"tied", model.tied},
               {"vocabulary", model.vocabulary},
               {"context", model.context},
               {"peak_lr", config.optim.peak_lr},
               {"parameters", parameter_count(model, true)},
               {"parameters_without_embeddings", parameter_count(model, false)},
               {"data_ranks", data_parallel_size},
               {"tensor_ranks", config.parallel.tensor}};
  json.update(estimate ? to_json(*estimate) : to_json(plan));
  json["run"] = summary_json(config, sizes);
  json["host"] = to_json(host_memory);
  if (device_peak != 0) json["device_peak_bytes"] = device_peak;
  if (gpu_roofline) json["on_gpu"] = to_json(*gpu_roofline);
  std::cout << to_line(json) << "\n";
  return 0;
}

}  // namespace slipway
