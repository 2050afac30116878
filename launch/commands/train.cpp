// slipway train --run DIR --data DIR ... | slipway train --resume DIR ...
#include <algorithm>
#include <map>
#include <optional>

#include "kernels/device.hpp"
#include "kernels/profiled.hpp"
#include "launch/command.hpp"
#include "launch/continuation.hpp"
#include "launch/crash_record.hpp"
#include "launch/initial_weights.hpp"
#include "launch/launcher.hpp"
#include "launch/rehearsal.hpp"
#include "launch/run_folder.hpp"
#include "launch/run_lock.hpp"
#include "launch/signals.hpp"
#include "src/core/clock.hpp"
#include "src/core/file.hpp"
#include "src/core/log.hpp"
#include "src/core/plural.hpp"
#include "src/infer/generate.hpp"
#include "src/infer/loaded_model.hpp"
#include "src/train/host_memory.hpp"
#include "src/train/run.hpp"
#include "src/train/run_summary.hpp"

namespace slipway {
namespace {

constexpr Usage kUsage{
    .summary = "Trains a model on a data folder, on one process or under mpirun (launch/run -n 4 slipway train ...).",
    .forms =
        "slipway train --run DIR --data DIR [--init MODEL] [--config FILE]... [--key value]...\n"
        "slipway train --resume RUN [--data DIR] [--key value]...",
    .example = "slipway train --run runs/a --data data --model.preset llama-8m --train.steps 2000",
    .notes =
        "USR1 (and without mpirun Ctrl-C and TERM) finishes the step, saves and ends; --resume goes on from there."};

struct TrainOptions {
  std::string run, resume, checkpoint;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("run", self.run, {"folder for a new run", "DIR"}, Change::kObserving);
    visit("resume", self.resume, {"continue the run in this folder", "RUN"}, Change::kObserving);
    visit("checkpoint", self.checkpoint,
          {"with --resume: continue from this checkpoint, not from the newest; later ones are set aside", "best|STEP"},
          Change::kObserving);
  }
};

/// Everything the command works with; `fields` binds to the rest, so this never moves.
struct Job {
  TrainOptions options;
  RunConfig config;
  Fields fields;
  std::map<std::string, std::string> saved;  ///< on resume, the values in the run's config.ini
  const KernelTable* kernels = nullptr;      ///< of the device that the run takes
  Job() {
    fields.add(options);
    config.add_to(fields);
    fields.alias("data", "data.path");
    fields.alias("init", "train.init");
  }
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
};

/// On resume the run's own config.ini comes first, then what was typed. Returns the values of config.ini.
std::map<std::string, std::string> read_saved_config(Job& job, const Arguments& arguments) {
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
  job.config = saved.config;
  job.config.fault = {};  // a fault on demand was for that one run
  for (const std::string& key : kLengthKeys)
    if (job.fields.given(key)) job.config.train.steps = 0;
  read_arguments(job.fields, arguments, kUsage);
  std::map<std::string, std::string> values;
  for (const Field& field : saved.fields.all()) values[field.key] = field.get();
  return values;
}

void check_paths(const Job& job) {
  if (job.config.data.path.empty())
    throw Error(Fault::kConfig, "no data: give the folder that `slipway data prepare` made with --data DIR");
  if (!std::filesystem::exists(job.config.data.path))
    throw Error(Fault::kData, join("there is no data folder at ", job.config.data.path,
                                   "; make it with slipway data prepare, or name it with --data",
                                   comment_hint(job.config.data.path)));
}

/// Leaves the reason of an error in status.json, for programs that look at the folder later. What refuses a resume
/// before anything has begun leaves the status of the last time.
void write_failure(const std::filesystem::path& run, const char* status, std::string_view fault,
                   const std::string& why) {
  try {
    const std::filesystem::path file = run / "status.json";
    if (std::filesystem::exists(file) && read_json(file, Fault::kStorage).value("status", "") != "running") return;
    replace_file(file, to_pretty({{"schema", "slipway.status"},
                                  {"schema_version", 1},
                                  {"status", status},
                                  {"fault", fault},
                                  {"error", why},
                                  {"warnings", log::warnings()}}));
  } catch (const std::exception&) {
    // The disk that failed the run may fail its obituary too; the error itself is what the user is told.
  }
}

/// Says what was not taken, and who shares what was.
void check_gpus(World& world, const KernelTable& kernels, const std::string& device) {
  if (device == "cpu") return;  // nothing of CUDA's is opened for who wants none of it
  const CudaFound& cuda = find_cuda();
  const bool without_nccl = world.group().all_reduce_max(kernels.messages == nullptr ? 1 : 0) > 0;  // on some host
  if (kernels.memory->is_host()) {
    if (cuda.built && !cuda.on_host && !cuda.why_not.empty()) log::info("no GPU: " + cuda.why_not);
  } else if (static_cast<std::size_t>(world.host_ranks()) > cuda.gpus.size()) {
    log::warn(join(world.host_ranks(), " ranks on this host share ", cuda.gpus.size(),
                   cuda.gpus.size() == 1 ? " GPU" : " GPUs", ": they wait for each other; start one rank a GPU"));
  } else if (without_nccl && world.group().size() > 1) {
    log::warn(
        "NCCL is missing on a host (libnccl.so.2) or in this build (nccl.h): what ranks send each other goes by way of "
        "the host, slowly");
  }
}

/// What the run leaves in its folder and in every checkpoint: each key with its value, paths relative to the run.
void record_config(Job& job, RunStart& start) {
  job.config.data.path = relative_to(job.config.data.path, start.folder);
  if (!job.config.train.init.empty()) job.config.train.init = relative_to(job.config.train.init, start.folder);
  start.config_ini = job.fields.to_ini();
  for (const Field& field : job.fields.all())
    if (field.key.find('.') != std::string::npos) start.config[field.key] = field.get();
}

/// The warnings of a run for its last line: they are far above it by then.
std::string repeated(const std::vector<std::string>& warnings) {
  constexpr std::size_t kMostShown = 5;
  if (warnings.empty()) return "";
  std::string text = join("; ", counted(warnings.size(), "warning"), ": ");
  for (std::size_t i = 0; i < std::min(kMostShown, warnings.size()); ++i)
    text += join(i == 0 ? "" : " | ", warnings[i]);
  if (warnings.size() > kMostShown) text += join(" | and ", warnings.size() - kMostShown, " more in status.json");
  return text;
}

/// From here on the folder is this run's, and an error is written down in it.
RunEnd train_in(const std::filesystem::path& run, Job& job, World& world, Mesh& mesh, const Corpus& corpus,
                std::optional<ModelFiles> init) {
  Group& all = world.group();
  const bool resumes = !job.options.resume.empty();
  log::open_events(run / "events" / join("rank-", all.rank(), ".jsonl"));
  log::info(join("slipway ", SLIPWAY_VERSION, " on ", job.kernels->device, " (", hardware_of(*job.kernels), "). ",
                 how_to_stop(world.launcher())));
  if (!world.launcher().stale.empty())
    log::warn(join(world.launcher().stale, " is set, but its launcher is gone: training on one process"));
  const DataSizes sizes = sizes_of(corpus, job.config);
  log::info(summary_of(job.config, sizes));
  check_threads(world, threads());
  check_gpus(world, *job.kernels, job.config.layout.device);

  RunStart start{.folder = run};
  const auto checkpoint = resumes ? choose_checkpoint(run, job.options.checkpoint, all) : std::nullopt;
  if (checkpoint) {
    verify_together(checkpoint->folder, all);
    start.checkpoint = checkpoint->folder;
    const CheckpointInfo info = read_manifest(checkpoint->folder).info;
    refuse_fixed_changes(values_of(info.config), job.fields, "its checkpoint was trained with");
    keep_compute(job.config, info);
  } else if (resumes) {
    init = open_initial_weights(job.config, job.config.model.describe(corpus.tokenizer().vocabulary()),
                                corpus.tokenizer());
  }
  if (init) start.init = init->source.get();
  record_config(job, start);
  if (!resumes && all.rank() == 0) replace_file(run / "config.ini", start.config_ini);
  all.barrier();

  const bool finished = checkpoint && checkpoint->step >= job.config.train.steps;
  if (finished)
    log::info(join("this run is finished: step ", checkpoint->step, " of ", job.config.train.steps,
                   "; raise train.steps to go on"));
  if (!resumes && job.config.train.rehearsal) rehearse(world, mesh, *job.kernels, job.config, corpus, run);
  const RunHooks hooks{.pending_signal = pending_signal, .sample = [&](Model& model) {
                         return mesh.tensor->size() > 1
                                    ? std::string("(none: sampling needs mesh.tensor = 1)")
                                    : greedy_sample(model, corpus.tokenizer(), "", job.config.observe.sample_tokens);
                       }};
  const double begin_s = now_s();
  const KernelTable& kernels = job.config.train.profile > 0 ? profiled(*job.kernels) : *job.kernels;
  const RunEnd end = run_training(world, mesh, kernels, job.config, corpus, start, hooks);
  const std::string next = end.status == "ok" ? "next: slipway qa " : "continue: slipway train --resume ";
  if (end.why.empty() && !finished)
    log::info(join(end.status == "ok" ? "done" : "stopped and saved", " at step ", end.step, " of ",
                   job.config.train.steps, " after ", human_time(now_s() - begin_s), "; ", next, run.string(),
                   repeated(end.warnings)));
  return end;
}

/// What train_in() throws is written into the folder once the run has begun, by any rank, the first of them: it may be
/// the only one that knows. Before that, the folder is as it was.
RunEnd train_or_tell(const std::filesystem::path& run, Job& job, World& world, Mesh& mesh, const Corpus& corpus,
                     std::optional<ModelFiles> init) {
  const CrashRecord crashes(run, world.group().rank());
  try {
    return train_in(run, job, world, mesh, corpus, std::move(init));
  } catch (const Error& error) {
    write_failure(run, error.fault() == Fault::kNumeric ? "numerical" : "failed", name(error.fault()), error.what());
    throw;
  } catch (const std::exception& error) {
    write_failure(run, "failed", name(Fault::kBug), error.what());
    throw;
  }
}

int train(Job& job, World& world) {
  Group& all = world.group();
  const bool resumes = !job.options.resume.empty();
  log::set_rank(all.rank());
  set_instructions(job.config.layout.instructions);
  job.kernels = &kernels_for(job.config.layout.device, world.launcher().local_rank);
  job.config.computes_on(*job.kernels);
  set_library_sums(job.config.numerics.reduction == "library");
  if (library_sums() && job.kernels->messages == nullptr)
    throw Error(Fault::kConfig, join("numerics.reduction = library takes NCCL's sums over GPUs, and this run is on ",
                                     job.kernels->device, ": leave it out"));
  check_paths(job);
  Mesh mesh = make_mesh(world, job.config.layout.tensor);
  const int thread_count = job.config.layout.threads > 0 ? job.config.layout.threads : default_threads(world);
  set_threads(thread_count);
  if (all.rank() == 0 && world.host_ranks() * thread_count > world.host_cpus())
    log::warn(join(counted(world.host_ranks(), "rank"), " x ", counted(thread_count, "thread"), " on ",
                   counted(world.host_cpus(), "CPU"),
                   " of this host: who waits keeps a core from who works; start fewer ranks, or leave "
                   "runtime.threads at 0, which takes ",
                   default_threads(world)));
  set_watchdog(job.config.layout.watchdog_s);

  job.config.check();
  const Corpus corpus = Corpus::open(job.config.data.path);
  const DataSizes sizes = sizes_of(corpus, job.config);
  job.config.resolve(sizes.sequences_per_epoch, sizes.validation_tokens);
  if (resumes) refuse_fixed_changes(job.saved, job.fields, "this run was begun with");
  SlotPlan::make(job.config.train.batch, job.config.train.micro_batch, job.config.numerics.slots, mesh.data->size());
  const ModelDescription model = job.config.model.describe(corpus.tokenizer().vocabulary());
  TensorSplit::of(model, mesh.tensor->rank(), mesh.tensor->size());
  check_host_memory(job.config, model, mesh.data->size(), least_host_share(all, world.host_ranks()));
  std::optional<ModelFiles> init;  // what cannot be is refused before a folder is made
  if (!resumes) init = open_initial_weights(job.config, model, corpus.tokenizer());

  const std::filesystem::path run = resumes ? job.options.resume : job.options.run;
  if (!resumes) make_run_folder(run, all);
  const RunLock lock(run, all);
  if (all.rank() == 0) remove_rehearsal(run);  // of a run that was killed in the middle of it
  const RunEnd end = train_or_tell(run, job, world, mesh, corpus, std::move(init));
  if (!end.why.empty()) throw Error(Fault::kData, join(end.why, "; step ", end.step, " is saved"));
  return end.signal > 0 ? exit_status_of_signal(end.signal) : 0;
}

}  // namespace

int command_train(const Arguments& arguments) {
  install_signals();
  Job job;
  if (!read_arguments(job.fields, arguments, kUsage)) return 0;
  arguments.refuse_targets("train");
  if (job.options.run.empty() == job.options.resume.empty())
    throw Error(Fault::kConfig, "give either --run DIR for a new run or --resume DIR to continue one");
  if (!job.options.resume.empty()) {
    if (job.fields.given("train.init"))
      throw Error(Fault::kConfig, "--init begins a new run and --resume continues one: give one of them");
    job.saved = read_saved_config(job, arguments);
  } else if (!job.options.checkpoint.empty()) {
    throw Error(Fault::kConfig,
                "--checkpoint chooses where --resume goes on; for a new run give --init MODEL, which may be a "
                "checkpoint folder");
  }
  job.fields.keep_latest(kLengthKeys);
  open_hdf5();
  World world;
  return train(job, world);
}

}  // namespace slipway
