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
    .forms = "slipway plan [--ranks N] [--calibrate] [--gpu GPU] [--json] [--key value]...",
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

constexpr double kCalibration_s = 10;

/// What ranks that are threads of this process measure; as many of the run's as its CPUs can hold at once, two at least
/// where there are more than one, so that a reduction is seen.
RunEstimate calibrate_on_threads(const RunConfig& config, const ModelSpec& model, int data_ranks,
                                 const Corpus* corpus) {
  // Measured: what MPI_Init adds to the resident size of a rank, buffers shared with the others included.
  constexpr std::uint64_t kMpiBytes = std::uint64_t{8} << 20;
  const int tensor = config.parallel.tensor,
            fit = static_cast<int>(std::bit_floor(static_cast<unsigned>(std::max(1, cpus_of_process() / tensor)))),
            data_here = std::min(data_ranks, std::max(2, fit)), here = data_here * tensor;
  if (data_here < data_ranks)
    log::warn(join(data_ranks * tensor, " ranks are more than this host holds: measured as ", here,
                   ", as if all were on hosts like this one with a network as fast as its memory"));
  const Runtime runtime(
      {.instructions = config.parallel.instructions,
       .threads = config.parallel.threads > 0 ? config.parallel.threads : std::max(1, cpus_of_process() / here)});

  std::optional<Calibration> calibration;
  std::uint64_t with_ranks = 0;
  run_thread_group(here, [&](Group& all) {
    Mesh mesh = make_thread_mesh(all, tensor);
    std::optional<Loader> loader;
    if (corpus != nullptr)
      loader.emplace(*corpus, Split::kTrain, config.data, config.train.sequence, config.train.seed);
    const Calibration found =
        calibrate(config, model, data_ranks, runtime.backend(), mesh, all, loader ? &*loader : nullptr,
                  {config.train.calibrate_s, calibration_bytes(here)});
    all.barrier();
    if (all.rank() == 0) {
      return_freed_memory();
      if (corpus != nullptr) corpus->release_pages();
      calibration = found;
      with_ranks = resident_bytes();
    }
    all.barrier();  // the backend's scratch of every rank is still there
  });
  return_freed_memory();
  const std::uint64_t without = std::min(resident_bytes(), with_ranks);
  if (data_here < data_ranks && data_here > 1)
    calibration->parts.reduce *= (1 - 1.0 / data_ranks) / (1 - 1.0 / data_here);  // bytes that a rank sends
  const std::uint64_t program_bytes =
      without + (with_ranks - without) / static_cast<std::uint64_t>(here) + (here > 1 ? kMpiBytes : 0);
  return estimate_run(config, model, data_ranks, corpus, config.train.steps, program_bytes, calibration);
}

void line(const char* what, const std::string& value) {
  std::cout << "  " << what << std::string(26 - std::string(what).size(), ' ') << value << "\n";
}

std::string seconds(double value) {
  char text[32];
  std::snprintf(text, sizeof text, value < 0.1 ? "%.2f ms" : "%.3f s", value < 0.1 ? 1e3 * value : value);
  return text;
}

/// What was measured, and what follows.
void print(const RunEstimate& estimate, const ModelSpec& model, const RunConfig& config) {
  const auto bytes = [](std::uint64_t count) { return human_bytes(static_cast<double>(count)); };
  const Calibration& found = *estimate.calibration;
  std::cout << "measured here, in " << human_time(found.seconds) << "\n";
  line("a micro-batch",
       join(seconds(found.parts.micro_batch), " (", found.micro_batches, " of ", found.sequences, " sequences, ",
            found.layers, " of ", model.layers, " layers; spread ", std::lround(100 * found.spread), " %)"));
  line("sums over slots", seconds(found.parts.slots));
  line("gradients over ranks", seconds(found.parts.reduce));
  line("optimizer, weights", seconds(found.parts.update));
  line("program, data, saving",
       join(bytes(estimate.process.program), ", ", bytes(estimate.process.data), ", ", bytes(estimate.process.saving)));
  std::cout << "predicted\n";
  line("a step",
       join(seconds(estimate.step_seconds), ", ", static_cast<std::int64_t>(estimate.tokens_per_s), " tokens/s"));
  line("the run", join(human_time(estimate.run_seconds), " for ", config.train.steps, " steps and their validations"));
  line("peak memory of a rank", bytes(estimate.peak_resident_bytes()));
}

/// What `ranks` of the run on this host would find free in its memory.
struct HostFit {
  HostMemoryBudget share;
  std::uint64_t rank_bytes = 0;
  std::string why_not;  ///< empty: they fit
};

HostFit fit_on_host(const RunConfig& config, const ModelSpec& model, int data_ranks, int ranks) {
  const HostMemoryBudget share{ranks, available_memory_bytes()};
  return {share, host_bytes(config, model, data_ranks), host_memory_shortfall(config, model, data_ranks, share)};
}

/// A calibration measures fewer layers and sequences where memory does not suffice, but one of each at least.
void check_calibration_memory(const RunConfig& config, ModelSpec model, int data_ranks) {
  RunConfig least = config;
  model.layers = least.train.micro_batch = 1;
  check_host_memory(least, model, data_ranks, {1, available_memory_bytes()});
}

void print(const HostFit& fit) {
  const double together = static_cast<double>(fit.rank_bytes) * fit.share.ranks;
  line("memory of this host", join(human_bytes(together), " for ", pluralize(fit.share.ranks, "rank"), ", ",
                                   human_bytes(static_cast<double>(fit.share.free_bytes)), " free",
                                   fit.why_not.empty() ? "" : ": does not fit; " + fit.why_not));
}

Json to_json(const HostFit& fit) {
  Json json = {{"ranks", fit.share.ranks},
               {"rank_bytes", fit.rank_bytes},
               {"free_bytes", fit.share.free_bytes},
               {"fits", fit.why_not.empty()}};
  if (!fit.why_not.empty()) json["why_not"] = fit.why_not;
  return json;
}

void print(const RunPlan& plan, const ModelSpec& model, const RunConfig& config, int data_ranks) {
  const auto bytes = [](std::uint64_t count) { return human_bytes(static_cast<double>(count)); };
  std::cout << model.name << ": " << model.layers << " x " << model.width << ", " << model.heads << " heads ("
            << model.kv_heads << " kv), ffn " << model.ffn << ", vocabulary " << model.vocabulary
            << (model.tied ? ", tied" : "") << "\n";
  line("parameters", join(parameter_count(model, true), " (", parameter_count(model, false), " without embeddings)"));
  line("ranks", join(data_ranks, " data x ", config.parallel.tensor, " tensor"));
  std::cout << "memory of a rank\n";
  const MemoryPlan& m = plan.memory;
  line("weights, f32", bytes(m.weights));
  if (m.compute_copy != 0) line("weights, bf16 copy", bytes(m.compute_copy));
  line("gradients", bytes(m.gradients));
  line("slots' partial gradients",
       join(bytes(m.slot_partials), " (", plan.slots, " slots; numerics.slots = data ranks makes it least)"));
  line(config.optim.is_muon() ? "Muon's, AdamW's moments" : "AdamW's moments", bytes(m.moments));
  if (config.optim.is_muon()) line("Muon's whole matrices", bytes(m.orthogonal));
  line("activations", bytes(m.activations));
  line("logits, one chunk", bytes(m.logits));
  if (m.other != 0) line("messages, samples, other", bytes(m.other));
  line("total", bytes(m.total()));
  line("checkpoint staging", join("up to ", bytes(m.staging), " more, where a save takes longer than a step"));
  std::cout << "a step\n";
  line("matmuls", join(human_count(plan.step_flops), " operations (6 x matmul parameters x tokens)"));
  line("attention", join(human_count(plan.step_attention_flops), " operations"));
  if (config.optim.is_muon())
    line("Muon's matmuls", join(human_count(plan.step_orthogonal_flops), " operations on the busiest rank"));
  line("sent to data ranks", bytes(plan.reduce_bytes));
  if (config.parallel.tensor > 1) line("sent to tensor ranks", bytes(plan.tensor_bytes));
  if (config.optim.is_muon())
    line("and by Muon", join(bytes(plan.orthogonal_bytes), ": parts of matrices, there and back"));
  line("checkpoint", bytes(plan.checkpoint_bytes));
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
  arguments.refuse_targets("plan");
  fields.keep_latest(kLengthKeys);
  const bool calibrates = options.calibrate || config.train.calibrate_s > 0;
  if (config.train.calibrate_s == 0 && fields.given("train.calibrate_s") && options.calibrate)
    throw Error(Fault::kConfig, "--calibrate asks for what --train.calibrate_s 0 forbids: leave one of them out");
  if (options.ranks < 1) throw Error(Fault::kConfig, join("--ranks is ", options.ranks, "; 1 or more is expected"));
  if (options.vocabulary < 1)
    throw Error(Fault::kConfig, join("--vocabulary is ", options.vocabulary, "; 1 or more is expected"));
  if (config.train.calibrate_s == 0 && calibrates) config.train.calibrate_s = kCalibration_s;
  std::optional<World> world;
  const Runtime runtime({.device = config.parallel.device,
                         .local_rank = launcher_info().local_rank,
                         .instructions = config.parallel.instructions,
                         .threads = config.parallel.threads});
  const Backend& backend = runtime.backend();
  config.set_device(backend);
  if (calibrates) {
    open_hdf5();  // as a run does: it is part of its size
    if (launcher_info().present || !backend.memory->is_host()) world.emplace();
  }
  if (world) {
    log::set_rank(world->group().rank());
    if (fields.given("ranks") && options.ranks != world->group().size())
      throw Error(Fault::kConfig, join("--ranks ", options.ranks, " but ", world->group().size(),
                                       " were started; leave --ranks out, or start plan alone"));
    options.ranks = world->group().size();
  }
  std::optional<DataSizes> sizes;
  std::optional<Corpus> corpus;
  config.check();
  if (!config.data.path.empty()) {
    corpus.emplace(Corpus::open(config.data.path));
    options.vocabulary = corpus->tokenizer().vocabulary();
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
  const int data_ranks = options.ranks / config.parallel.tensor;
  const ModelSpec model = config.model.spec(options.vocabulary);
  const HostFit fit = fit_on_host(config, model, data_ranks, options.ranks);
  if (calibrates || !options.gpu.empty() || !backend.memory->is_host()) check_row_count(config);
  if (calibrates && backend.memory->is_host()) check_calibration_memory(config, model, data_ranks);
  std::optional<Roofline> on_gpu;
  if (!options.gpu.empty()) {
    config.native_bf16 = true;
    on_gpu = roofline(config, model, data_ranks, gpu_spec(options.gpu));
  }
  const RunPlan plan = plan_run(config, model, data_ranks);
  const std::uint64_t of_device = backend.memory->is_host() ? 0 : peak_device_bytes(config, model, data_ranks);
  std::optional<RunEstimate> estimate;
  if (world) {
    Mesh mesh = make_mesh(*world, config.parallel.tensor, config.numerics.collective_reduction());
    const Runtime of_rank(runtime_options(config.parallel, *world));
    estimate = measure_and_estimate(config, model, of_rank.backend(), mesh, world->group(), world->local_size(),
                                    corpus ? &*corpus : nullptr, config.train.steps);
    if (world->group().rank() != 0) return 0;
  } else if (calibrates) {
    estimate = calibrate_on_threads(config, model, data_ranks, corpus ? &*corpus : nullptr);
  }
  if (!options.json) {
    std::cout << summary_of(config, sizes) << "\n";
    print(plan, model, config, data_ranks);
    if (fit.rank_bytes > 0) print(fit);
    if (of_device != 0)
      line("total on a GPU",
           join(human_bytes(static_cast<double>(of_device)), " of ", backend.device, ", in one block"));
    if (estimate) print(*estimate, model, config);
    if (on_gpu) std::cout << "a step on " << on_gpu->gpu->full_name << " (docs/gpu.md)\n" << table_of(*on_gpu);
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
               {"data_ranks", data_ranks},
               {"tensor_ranks", config.parallel.tensor}};
  json.update(estimate ? to_json(*estimate) : to_json(plan));
  json["run"] = summary_json(config, sizes);
  json["host"] = to_json(fit);
  if (of_device != 0) json["device_peak_bytes"] = of_device;
  if (on_gpu) json["on_gpu"] = to_json(*on_gpu);
  std::cout << to_line(json) << "\n";
  return 0;
}

}  // namespace slipway
