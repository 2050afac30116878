#include "launch/commands/rehearsal.hpp"

#include <malloc.h>

#include <algorithm>

#include "comm/agreement.hpp"
#include "io/checkpoint/checkpoint.hpp"
#include "io/model/model_spec_json.hpp"
#include "kernels/backend/runtime.hpp"
#include "src/core/clock.hpp"
#include "src/core/log.hpp"
#include "src/eval/bench.hpp"
#include "src/eval/qa.hpp"
#include "src/export/export.hpp"
#include "src/infer/loaded_model.hpp"
#include "src/infer/support.hpp"
#include "src/model/model_tensors.hpp"
#include "src/train/checkpoint_saver.hpp"
#include "src/train/trainer.hpp"

namespace slipway {
namespace {

constexpr char kRehearsalFolder[] = "rehearsal";     // in the run folder
constexpr std::int64_t kMaxParameters = 40'000'000;  // takes seconds; larger models are rehearsed with fewer layers

/// Removes the rehearsal's folder on destruction.
struct RehearsalFolder {
  std::filesystem::path folder;
  bool is_owner;
  ~RehearsalFolder() {
    std::error_code ignored;
    if (is_owner) std::filesystem::remove_all(folder, ignored);
  }
};

/// The gates of a report that did not pass, with what was measured: "norm_eps: 0.01, threshold [1e-09,0.001]".
std::string describe_blocking_gates(const Json& report) {
  std::string text;
  for (const Json& gate : report.at("gates")) {
    if (gate.at("verdict") != name(Verdict::kFail) && gate.at("verdict") != name(Verdict::kNotEvaluated)) continue;
    text += join(text.empty() ? "" : "; ", gate.at("id").get<std::string>(), ": ");
    if (!gate.at("value").is_null())
      text += join(to_line(gate.at("value")), ", threshold ", to_line(gate.at("threshold")));
    const std::string explanation = gate.at("explanation");
    if (!explanation.empty())
      text += join(gate.at("value").is_null() ? "" : " (", explanation, gate.at("value").is_null() ? "" : ")");
  }
  return text;
}

/// Runs one stage on the ranks that participate; all ranks throw the same error, with the stage's name.
void run_stage(Group& world_group, const std::string& name, bool participates, const std::function<void()>& work) {
  const double begin_s = now_s();
  try {
    run_collectively(world_group, participates ? work : nullptr);
  } catch (const Error& error) {
    throw Error(error.fault(), join("rehearsal, stage ", name, ": ", error.what()));
  }
  log::event("rehearsal", {{"stage", name}, {"seconds", now_s() - begin_s}});
}

/// The run's model, with fewer layers where it has more than kMaxParameters.
ModelSpec rehearsal_model(ModelSpec model) {
  const auto fits = [&](int layers) {
    model.layers = layers;
    return parameter_count(model, true) <= kMaxParameters;
  };
  int max_layers = 1, too_many = model.layers + 1;  // at least one layer
  while (too_many - max_layers > 1) {
    const int mid_layers = max_layers + (too_many - max_layers) / 2;
    (fits(mid_layers) ? max_layers : too_many) = mid_layers;
  }
  model.layers = max_layers;
  return model;
}

CheckpointInfo make_checkpoint_info(const ModelSpec& model, const Corpus& corpus, const Mesh& mesh,
                                    const Json& config) {
  CheckpointInfo info{.step = 0, .run_id = "0000000000000000"};
  info.layout = {mesh.data->size(), mesh.tensor->size(), 1};
  info.config = config;
  info.architecture = to_json(model);
  info.tokenizer = corpus.tokenizer().to_json();
  info.data = {{"corpus_sha256", corpus.corpus_sha256()}, {"cursor", 0}};
  info.random = {{"seed", 0}};
  info.history = {{"val_losses", Json::array()}};
  return info;
}

/// Loads the checkpoint as a run with tensor ranks that is resumed on the CPU would, and compares the weights with
/// newly initialized ones, which are the same on any layout.
void verify_reload(const RunConfig& config, const ModelSpec& model, const Corpus& corpus, const Backend& cpu,
                   const std::filesystem::path& checkpoint, Group& group) {
  Mesh mesh = make_thread_mesh(group, group.size());
  Model reloaded(model, cpu, *mesh.tensor, {.slots = config.numerics.slots}),
      initialized(model, cpu, *mesh.tensor, {.slots = config.numerics.slots});
  Loader loader(corpus, Split::kTrain, config.data, config.train.sequence, config.train.seed);
  Trainer trainer(config, reloaded, cpu, loader, nullptr, mesh, group);
  CheckpointReader reader(checkpoint);
  trainer.load(reader, 0);
  initialized.parameters().initialize(config.train.seed);
  const std::span<const float> reloaded_values = std::as_const(reloaded).parameters().values(),
                               expected_values = std::as_const(initialized).parameters().values();
  if (!std::equal(expected_values.begin(), expected_values.end(), reloaded_values.begin(), reloaded_values.end()))
    throw Error(Fault::kStorage, "the reloaded weights differ from the saved ones");
}

}  // namespace

void remove_rehearsal(const std::filesystem::path& run_folder) {
  std::error_code ignored;  // a leftover folder does no harm
  std::filesystem::remove_all(run_folder / kRehearsalFolder, ignored);
}

void rehearse(World& world, Mesh& mesh, const Backend& backend, const RunConfig& config, const Corpus& corpus,
              const std::filesystem::path& run_folder, const Json& saved_config) {
  Group& world_group = world.group();
  const bool is_rank0 = world_group.rank() == 0;
  const double begin_s = now_s();
  const ModelSpec model = rehearsal_model(config.model.spec(corpus.tokenizer().vocabulary_size()));
  const RehearsalFolder scratch{run_folder / kRehearsalFolder, is_rank0};
  const std::filesystem::path checkpoints = scratch.folder / "checkpoints";
  const std::string export_problem = export_limitation(ModelFormat::kGguf, model, corpus.tokenizer());
  log::info(
      "rehearsal: the whole life of this run on untrained weights, before step 1 (--train.rehearsal off skips it)");
  LoadOptions load{.compute = "f32",
                   .threads = backend.threads,
                   .instructions = config.parallel.instructions,
                   .device = backend.device};

  {
    Model untrained(model, backend, *mesh.tensor,
                    {.compute_dtype = config.compute_dtype(), .slots = config.numerics.slots});
    untrained.parameters().initialize(config.train.seed);
    Loader loader(corpus, Split::kTrain, config.data, config.train.sequence, config.train.seed);
    Trainer trainer(config, untrained, backend, loader, nullptr, mesh, world_group);
    CheckpointSaver saver(checkpoints, world_group);
    run_stage(world_group, "save", true,
              [&] { saver.begin(make_checkpoint_info(model, corpus, mesh, saved_config), trainer.slices()); });
    try {  // collective: all ranks throw the error of one
      saver.drain();
    } catch (const Error& error) {
      throw Error(error.fault(), join("rehearsal, stage save: ", error.what()));
    }
  }
  std::optional<LoadedModel> loaded;
  const int tensor_parallel_size = mesh.tensor->size() == 1 && model.heads > 1 ? 2 : 1;
  const std::string other_layout = tensor_parallel_size == 2 ? "two tensor ranks" : "one rank";
  run_stage(world_group, "reload on " + other_layout, is_rank0, [&] {
    const Runtime cpu({.instructions = load.instructions, .threads = load.threads});
    run_thread_group(tensor_parallel_size, [&](Group& group) {
      verify_reload(config, model, corpus, cpu.backend(), checkpoints / checkpoint_name(0), group);
    });
  });
  run_stage(world_group, "open", is_rank0,
            [&] { loaded.emplace(load_model(checkpoints.parent_path().string(), load)); });
  run_stage(world_group, "qa", is_rank0, [&] {
    QaOptions options{
        .load = load, .scratch = scratch.folder, .untrained_reason = "rehearsal: the weights are untrained"};
    options.exporter = [](const ModelBundle& bundle, const std::filesystem::path& gguf) {
      export_gguf(bundle.spec, *bundle.tokenizer, *bundle.source, TensorType::kF32, gguf);
    };
    if (!export_problem.empty()) options.exporter = {};
    const QaReport report = run_qa(loaded->bundle(), options);
    if (!report.passed)
      throw Error(Fault::kGate, join("these gates do not pass: ", describe_blocking_gates(report.json)));
  });
  run_stage(world_group, "bench", is_rank0, [&] {
    const int tokens = std::clamp(model.context / 2, 1, 8), prompt = std::clamp(model.context - tokens, 1, 32);
    const BenchReport report = run_bench(
        *loaded, {.prompt = prompt, .tokens = tokens, .batch = 1, .iterations = 1, .warmup = 0}, QaPolicy::built_in());
    if (!report.passed)
      throw Error(Fault::kGate, join("these gates do not pass: ", describe_blocking_gates(report.json)));
  });
  loaded.reset();
  ::malloc_trim(0);  // returns the rehearsal's memory to the system
  const std::string shortened = model.layers < config.model.shape.layers
                                    ? join(" (with ", model.layers, " of ", config.model.shape.layers, " layers)")
                                    : "";
  log::info(join("rehearsal: save, reload on ", other_layout, ", qa, bench, ",
                 export_problem.empty() ? "export, reopen " : join("(no export to a GGUF: ", export_problem, ") "),
                 "passed in ", human_time(now_s() - begin_s), shortened));
}

}  // namespace slipway
