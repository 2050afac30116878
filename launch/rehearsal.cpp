#include "launch/rehearsal.hpp"

#include <malloc.h>

#include <algorithm>

#include "io/checkpoint.hpp"
#include "src/core/clock.hpp"
#include "src/core/log.hpp"
#include "src/eval/bench.hpp"
#include "src/eval/qa.hpp"
#include "src/export/export.hpp"
#include "src/infer/loaded_model.hpp"
#include "src/model/description_json.hpp"
#include "src/train/trainer.hpp"

namespace slipway {
namespace {

constexpr std::int64_t kMostParameters =
    40'000'000;  // what rehearses in seconds; larger models keep their shape but for layers

/// Removes the rehearsal's folder however it ends.
struct Scratch {
  std::filesystem::path folder;
  bool mine;
  ~Scratch() {
    std::error_code ignored;
    if (mine) std::filesystem::remove_all(folder, ignored);
  }
};

/// Runs one stage where it belongs, and lets all ranks fail alike with the stage's name.
void stage(Group& all, const std::string& name, bool here, const std::function<void()>& work) {
  std::string problem;
  const double begin_s = now_s();
  try {
    if (here) work();
  } catch (const Error& error) {
    problem = join(error.exit_status(), " ", error.what());
  }
  for (const std::string& found : all.all_gather_text(problem)) {
    if (found.empty()) continue;
    const std::size_t space = found.find(' ');
    throw Error(static_cast<Fault>(std::stoi(found.substr(0, space))),
                join("rehearsal, stage ", name, ": ", found.substr(space + 1)));
  }
  log::event("rehearsal", {{"stage", name}, {"seconds", now_s() - begin_s}});
}

/// The run's own shape, with fewer layers where it would take minutes.
ModelDescription rehearsed(ModelDescription model) {
  while (model.layers > 1 && parameter_count(model, true) > kMostParameters) --model.layers;
  return model;
}

CheckpointInfo info_of(const ModelDescription& model, const Corpus& corpus, const Mesh& mesh) {
  CheckpointInfo info{.step = 0, .run_id = "0000000000000000"};
  info.layout = {mesh.data->size(), mesh.tensor->size(), 1};
  info.architecture = to_json(model);
  info.tokenizer = corpus.tokenizer().to_json();
  info.data = {{"corpus_sha256", corpus.corpus_sha256()}, {"cursor", 0}};
  info.random = {{"seed", 0}};
  info.history = {{"val_losses", Json::array()}};
  return info;
}

}  // namespace

void rehearse(World& world, Mesh& mesh, const RunConfig& config, const Corpus& corpus,
              const std::filesystem::path& run) {
  Group& all = world.group();
  const bool chief = all.rank() == 0;
  const double begin_s = now_s();
  const ModelDescription model = rehearsed(config.model.describe(corpus.tokenizer().vocabulary()));
  const Scratch scratch{run / "rehearsal", chief};
  const std::filesystem::path checkpoints = scratch.folder / "checkpoints";
  LoadOptions load{.compute = "f32", .threads = threads()};

  {
    RunConfig small = config;
    small.model.layers = model.layers;
    Model untrained(model, cpu_kernels(), *mesh.tensor, {.compute = config.compute(), .slots = config.numerics.slots});
    untrained.parameters().initialize(config.train.seed);
    Loader loader(corpus, Split::kTrain, config.data, config.train.sequence, config.train.seed);
    Trainer trainer(small, untrained, cpu_kernels(), loader, nullptr, mesh, all);
    CheckpointSaver saver(checkpoints, all);
    stage(all, "save", true, [&] { saver.begin(info_of(model, corpus, mesh), trainer.slices()); });
    saver.drain();
  }
  std::optional<LoadedModel> loaded;
  stage(all, "reload on one rank", chief, [&] {
    loaded.emplace(load_model(checkpoints.parent_path().string(), load));
    const std::unique_ptr<Group> self = make_self_group();
    Model fresh(model, cpu_kernels(), *self, {});
    fresh.parameters().initialize(config.train.seed);
    const std::span<const float> was = std::as_const(fresh).parameters().values(),
                                 is = loaded->model().parameters().values();
    if (!std::equal(was.begin(), was.end(), is.begin()))
      throw Error(Fault::kStorage, "the reloaded weights differ from the saved ones");
  });
  stage(all, "qa", chief, [&] {
    QaOptions options{.load = load, .scratch = scratch.folder, .untrained = "rehearsal: the weights are untrained"};
    options.exporter = [](const ModelFiles& files, const std::filesystem::path& gguf) {
      export_gguf(files.description, *files.tokenizer, *files.source, TensorType::kF32, gguf);
    };
    if (corpus.tokenizer().parts().pre == PreTokenizer::kChar) options.exporter = {};
    const QaReport report = run_qa(loaded->files(), options);
    if (!report.passed) throw Error(Fault::kGate, join("these gates do not pass: ", report.blocking));
  });
  stage(all, "bench", chief, [&] {
    const BenchReport report =
        run_bench(*loaded, {.prompt = 32, .tokens = 8, .batch = 1, .iterations = 1, .warmup = 0}, QaPolicy::built_in());
    if (!report.passed) throw Error(Fault::kGate, join("these gates do not pass: ", report.blocking));
  });
  loaded.reset();
  ::malloc_trim(0);  // what the rehearsal took is the run's again
  const std::string shortened =
      model.layers < config.model.layers ? join(" (with ", model.layers, " of ", config.model.layers, " layers)") : "";
  log::info(join("rehearsal: save, reload on one rank, qa, bench, export, reopen passed in ",
                 human_time(now_s() - begin_s), shortened));
}

}  // namespace slipway
