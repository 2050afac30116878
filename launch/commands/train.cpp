// slipway train --run DIR --data DIR ... | slipway train --resume DIR ...
#include <unistd.h>

#include <csignal>

#include "launch/command.hpp"
#include "launch/launcher.hpp"
#include "launch/rehearsal.hpp"
#include "launch/run_folder.hpp"
#include "launch/run_lock.hpp"
#include "launch/signals.hpp"
#include "src/core/clock.hpp"
#include "src/core/file.hpp"
#include "src/core/log.hpp"
#include "src/infer/generate.hpp"
#include "src/infer/loaded_model.hpp"
#include "src/train/run.hpp"

namespace slipway {
namespace {

constexpr char kUsage[] =
    "slipway train --run DIR --data DIR [--init MODEL] [--config FILE]... [--key value]...\n"
    "slipway train --resume DIR [--data DIR] [--key value]...\n\n"
    "Trains a model on a data folder (slipway data prepare), alone or under mpirun: launch/run -n 2 slipway train ...\n"
    "USR1 (and without mpirun INT and TERM) finishes the step, saves and ends; --resume goes on from there.";

struct TrainOptions {
  std::string run, resume, data, init, checkpoint;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("run", self.run, "folder of the new run", Change::kObserving);
    visit("resume", self.resume, "folder of a run to continue", Change::kObserving);
    visit("data", self.data, "the data folder", Change::kObserving);
    visit("checkpoint", self.checkpoint, "of --resume: continue from this step, or from best; later ones are set aside",
          Change::kObserving);
    visit("init", self.init, "begin with the weights of this model (run, checkpoint or .gguf)", Change::kObserving);
  }
};

/// Everything the command works with; `fields` binds to the rest, so this never moves.
struct Job {
  TrainOptions options;
  RunConfig config;
  Fields fields;
  Job() {
    fields.add(options);
    config.add_to(fields);
  }
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
};

/// On resume the run's own config.ini comes first, then what was typed.
void read_saved_config(Job& job, const Arguments& arguments) {
  const std::filesystem::path ini = std::filesystem::path(job.options.resume) / "config.ini";
  if (!std::filesystem::exists(ini))
    throw Error(Fault::kStorage,
                join("--resume ", job.options.resume, " holds no config.ini, so it is no run; begin one with --run"));
  Job saved;
  try {
    read_config_file(saved.fields, ini);
  } catch (const Error& error) {
    throw Error(Fault::kStorage, error.what());
  }
  refuse_fixed_changes(saved.fields, job.fields);
  const bool tokens_given = job.fields.given("train.tokens"), epochs_given = job.fields.given("train.epochs");
  job.config = saved.config;
  if (tokens_given || epochs_given) job.config.train.steps = 0;
  read_arguments(job.fields, arguments, kUsage);
}

/// The run's folder: new or locked again.
std::filesystem::path folder_of(const Job& job) {
  return job.options.resume.empty() ? job.options.run : job.options.resume;
}

void resolve_paths(Job& job) {
  if (!job.options.data.empty()) job.config.data.path = job.options.data;
  if (job.config.data.path.empty())
    throw Error(Fault::kConfig, "no data: give the folder that `slipway data prepare` made with --data DIR");
  if (!std::filesystem::exists(job.config.data.path))
    throw Error(Fault::kData, join("there is no data folder at ", job.config.data.path,
                                   "; make it with slipway data prepare, or name it with --data"));
}

/// What this checkpoint's run is continued from; empty: it had not saved yet.
std::optional<CheckpointRef> checkpoint_of(const Job& job) {
  if (job.options.resume.empty()) return std::nullopt;
  const std::filesystem::path folder = job.options.resume;
  const std::vector<CheckpointRef> complete = list_checkpoints(folder / "checkpoints");
  if (complete.empty()) {
    log::info(join("no complete checkpoint in ", folder.string(), " yet: beginning this run again at step 1"));
    return std::nullopt;
  }
  const CheckpointRef chosen = find_checkpoint(folder, job.options.checkpoint);
  log::info(join("resuming from step ", chosen.step,
                 job.options.checkpoint.empty() ? " (newest of " : " (chosen among ", complete.size(),
                 " complete checkpoint(s))"));
  return chosen;
}

/// Rank 0 reads every byte of the checkpoint, so that a flip that loading would not touch is found now; all ranks throw
/// alike.
void verify_together(const std::filesystem::path& checkpoint, Group& all) {
  std::string problem;
  try {
    if (all.rank() == 0) CheckpointReader(checkpoint).verify_all();
  } catch (const Error& error) {
    problem = error.what();
  }
  const std::string found = all.all_gather_text(problem).front();
  if (!found.empty()) throw Error(Fault::kStorage, found);
}

std::string sample_text(Model& model, const Tokenizer& tokenizer, int tokens) {
  return greedy_sample(model, tokenizer, "", tokens);
}

/// Leaves the reason of an error in status.json, for programs that look at the folder later.
void write_failure(const std::filesystem::path& run, const Error& error, bool chief) {
  if (!chief || run.empty() || !std::filesystem::is_directory(run)) return;
  const char* status = error.fault() == Fault::kNumeric ? "numerical"
                       : error.fault() == Fault::kData  ? "stream_exhausted"
                                                        : "failed";
  try {
    replace_file(run / "status.json", to_pretty({{"schema", "slipway.status"},
                                                 {"schema_version", 1},
                                                 {"status", status},
                                                 {"fault", name(error.fault())},
                                                 {"error", error.what()}}));
  } catch (const Error&) {
    // The disk that failed the run may fail its obituary too; the error itself is what the user is told.
  }
}

int train(Job& job, World& world) {
  Group& all = world.group();
  log::set_rank(all.rank());
  const bool resumes = !job.options.resume.empty();
  const std::filesystem::path run = folder_of(job);
  resolve_device(job.config.layout.device);
  resolve_paths(job);
  Mesh mesh = make_mesh(world, job.config.layout.tensor);
  const int thread_count = job.config.layout.threads > 0 ? job.config.layout.threads : default_threads(world);
  set_threads(thread_count);
  check_threads(world, thread_count);
  set_watchdog(job.config.layout.watchdog_s);
  install_signals();

  const Corpus corpus = Corpus::open(job.config.data.path);
  const Loader probe(corpus, Split::kTrain, job.config.data, job.config.train.sequence, job.config.train.seed);
  job.config.resolve(probe.sequences_per_epoch());
  SlotPlan::make(job.config.train.batch, job.config.train.micro_batch, job.config.numerics.slots, mesh.data->size());
  TensorSplit::of(job.config.model.describe(corpus.tokenizer().vocabulary()), mesh.tensor->rank(), mesh.tensor->size());
  std::optional<ModelFiles> init;
  if (!job.options.init.empty()) init = open_model(job.options.init);

  if (!resumes) make_run_folder(run, all);
  const RunLock lock(run, all);
  log::open_events(run / "events" / join("rank-", all.rank(), ".jsonl"));
  log::info(
      join("slipway ", SLIPWAY_VERSION, " on the CPU (", cpu_features().model, "). ", how_to_stop(world.launcher())));

  const std::optional<CheckpointRef> checkpoint = checkpoint_of(job);
  RunStart start{.folder = run, .init = init ? init->source.get() : nullptr};
  if (checkpoint) {
    verify_together(checkpoint->folder, all);
    start.checkpoint = checkpoint->folder;
  }
  job.config.data.path = relative_to(job.config.data.path, run);
  start.config_ini = job.fields.to_ini();
  for (const Field& field : job.fields.all())
    if (field.key.find('.') != std::string::npos) start.config[field.key] = field.get();
  if (!resumes && all.rank() == 0) replace_file(run / "config.ini", start.config_ini);
  all.barrier();

  if (checkpoint && checkpoint->step >= job.config.train.steps) {
    log::info(join("this run is finished: step ", checkpoint->step, " of ", job.config.train.steps,
                   "; raise train.steps to go on"));
    return 0;
  }
  if (checkpoint && all.rank() == 0)
    for (const std::int64_t step : set_aside_after(run / "checkpoints", checkpoint->step))
      log::info(join("set aside: the checkpoint of step ", step));
  try {
    if (!resumes && job.config.train.rehearsal) rehearse(world, mesh, job.config, corpus, run);
    const RunHooks hooks{.pending_signal = pending_signal, .sample = [&](Model& model) {
                           return mesh.tensor->size() > 1
                                      ? std::string("(none: sampling needs mesh.tensor = 1)")
                                      : sample_text(model, corpus.tokenizer(), job.config.observe.sample_tokens);
                         }};
    const double begin_s = now_s();
    const RunEnd end = run_training(world, mesh, cpu_kernels(), job.config, corpus, start, hooks);
    log::info(join(end.status == "ok" ? "done" : "stopped and saved", " at step ", end.step, " of ",
                   job.config.train.steps, " after ", human_time(now_s() - begin_s), "; ",
                   end.status == "ok" ? "next: slipway qa " : "continue: slipway train --resume ", run.string()));
    return end.signal > 0 ? exit_status_of_signal(end.signal) : 0;
  } catch (const Error& error) {
    write_failure(run, error, all.rank() == 0);
    throw;
  }
}

}  // namespace

int command_train(const Arguments& arguments) {
  Job job;
  if (!read_arguments(job.fields, arguments, kUsage)) return 0;
  arguments.refuse_targets("train");
  if (job.options.run.empty() == job.options.resume.empty())
    throw Error(Fault::kConfig, "give either --run DIR for a new run or --resume DIR to continue one");
  if (!job.options.resume.empty()) {
    if (!job.options.init.empty())
      throw Error(Fault::kConfig, "--init begins a new run and --resume continues one: give one of them");
    read_saved_config(job, arguments);
  }
  open_hdf5();
  World world;
  return train(job, world);
}

}  // namespace slipway
