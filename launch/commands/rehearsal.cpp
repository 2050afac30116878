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

constexpr char kFolder[] = "rehearsal";  // inside the run's
constexpr std::int64_t kMaxParameters =
    40'000'000;  // what rehearses in seconds; larger models keep their shape but for layers

/// Removes the rehearsal's folder however it ends.
struct RehearsalFolder {
  std::filesystem::path folder;
  bool mine;
  ~RehearsalFolder() {
    std::error_code ignored;
    if (mine) std::filesystem::remove_all(folder, ignored);
  }
};

/// Runs one stage where it belongs, and lets all ranks fail alike with the stage's name.
void stage(Group& all, const std::string& name, bool here, const std::function<void()>& work) {
  const double begin_s = now_s();
  try {
    run_collectively(all, here ? work : nullptr);
  } catch (const Error& error) {
    throw Error(error.fault(), join("rehearsal, stage ", name, ": ", error.what()));
  }
  log::event("rehearsal", {{"stage", name}, {"seconds", now_s() - begin_s}});
}

/// The run's own shape, with fewer layers where it would take minutes.
ModelSpec rehearsed(ModelSpec model) {
  const auto fits = [&](int layers) {
    model.layers = layers;
    return parameter_count(model, true) <= kMaxParameters;
  };
  int most = 1, too_many = model.layers + 1;  // one layer is the least
  while (too_many - most > 1) {
    const int middle = most + (too_many - most) / 2;
    (fits(middle) ? most : too_many) = middle;
  }
  model.layers = most;
  return model;
}

CheckpointInfo info_of(const ModelSpec& model, const Corpus& corpus, const Mesh& mesh, const Json& config) {
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

/// Loads the checkpoint as a run of tensor ranks that is resumed on the CPU would, and compares: first weights are the
/// same on any layout.
void reload(const RunConfig& config, const ModelSpec& model, const Corpus& corpus, const Backend& cpu,
            const std::filesystem::path& checkpoint, Group& group) {
  Mesh mesh = make_thread_mesh(group, group.size());
  Model reloaded(model, cpu, *mesh.tensor, {.slots = config.numerics.slots}),
      fresh(model, cpu, *mesh.tensor, {.slots = config.numerics.slots});
  Loader loader(corpus, Split::kTrain, config.data, config.train.sequence, config.train.seed);
  Trainer trainer(config, reloaded, cpu, loader, nullptr, mesh, group);
  CheckpointReader reader(checkpoint);
  trainer.load(reader, 0);
  fresh.parameters().initialize(config.train.seed);
  const std::span<const float> is = std::as_const(reloaded).parameters().values(),
                               was = std::as_const(fresh).parameters().values();
  if (!std::equal(was.begin(), was.end(), is.begin(), is.end()))
    throw Error(Fault::kStorage, "the reloaded weights differ from the saved ones");
}

}  // namespace

void remove_rehearsal(const std::filesystem::path& run) {
  std::error_code ignored;  // it is in nobody's way
  std::filesystem::remove_all(run / kFolder, ignored);
}

void rehearse(World& world, Mesh& mesh, const Backend& backend, const RunConfig& config, const Corpus& corpus,
              const std::filesystem::path& run, const Json& kept_config) {
  Group& all = world.group();
  const bool is_rank0 = all.rank() == 0;
  const double begin_s = now_s();
  const ModelSpec model = rehearsed(config.model.spec(corpus.tokenizer().vocabulary()));
  const RehearsalFolder scratch{run / kFolder, is_rank0};
  const std::filesystem::path checkpoints = scratch.folder / "checkpoints";
  const std::string no_export = export_limitation(ModelFormat::kGguf, model, corpus.tokenizer());
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
    Trainer trainer(config, untrained, backend, loader, nullptr, mesh, all);
    CheckpointSaver saver(checkpoints, all);
    stage(all, "save", true, [&] { saver.begin(info_of(model, corpus, mesh, kept_config), trainer.slices()); });
    try {  // collective by itself: what one rank meets, all throw alike
      saver.drain();
    } catch (const Error& error) {
      throw Error(error.fault(), join("rehearsal, stage save: ", error.what()));
    }
  }
  std::optional<LoadedModel> loaded;
  const int tensor_ranks = mesh.tensor->size() == 1 && model.heads > 1 ? 2 : 1;
  const std::string other_layout = tensor_ranks == 2 ? "two tensor ranks" : "one rank";
  stage(all, "reload on " + other_layout, is_rank0, [&] {
    const Runtime cpu({.instructions = load.instructions, .threads = load.threads});
    run_thread_group(tensor_ranks, [&](Group& group) {
      reload(config, model, corpus, cpu.backend(), checkpoints / checkpoint_name(0), group);
    });
  });
  stage(all, "open", is_rank0, [&] { loaded.emplace(load_model(checkpoints.parent_path().string(), load)); });
  stage(all, "qa", is_rank0, [&] {
    QaOptions options{
        .load = load, .scratch = scratch.folder, .untrained_reason = "rehearsal: the weights are untrained"};
    options.exporter = [](const ModelBundle& files, const std::filesystem::path& gguf) {
      export_gguf(files.spec, *files.tokenizer, *files.source, TensorType::kF32, gguf);
    };
    if (!no_export.empty()) options.exporter = {};
    const QaReport report = run_qa(loaded->files(), options);
    if (!report.passed) throw Error(Fault::kGate, join("these gates do not pass: ", report.blocking));
  });
  stage(all, "bench", is_rank0, [&] {
    const int tokens = std::clamp(model.context / 2, 1, 8), prompt = std::clamp(model.context - tokens, 1, 32);
    const BenchReport report = run_bench(
        *loaded, {.prompt = prompt, .tokens = tokens, .batch = 1, .iterations = 1, .warmup = 0}, QaPolicy::built_in());
    if (!report.passed) throw Error(Fault::kGate, join("these gates do not pass: ", report.blocking));
  });
  loaded.reset();
  ::malloc_trim(0);  // what the rehearsal took is the run's again
  const std::string shortened = model.layers < config.model.shape.layers
                                    ? join(" (with ", model.layers, " of ", config.model.shape.layers, " layers)")
                                    : "";
  log::info(join("rehearsal: save, reload on ", other_layout, ", qa, bench, ",
                 no_export.empty() ? "export, reopen " : join("(no export to a GGUF: ", no_export, ") "), "passed in ",
                 human_time(now_s() - begin_s), shortened));
}

}  // namespace slipway
