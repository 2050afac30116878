// slipway train --run DIR --data DIR ... | slipway train --resume DIR ... | slipway train --fork RUN --run NEW ...
#include <algorithm>
#include <array>
#include <iomanip>
#include <optional>

#include "comm/watchdog.hpp"
#include "io/checkpoint/manifest_errors.hpp"
#include "kernels/backend/cpu_backend.hpp"
#include "kernels/backend/device.hpp"
#include "kernels/instrument/profiled.hpp"
#include "launch/commands/command.hpp"
#include "launch/commands/initial_weights.hpp"
#include "launch/commands/rehearsal.hpp"
#include "launch/process/crash_record.hpp"
#include "launch/process/launcher.hpp"
#include "launch/process/signals.hpp"
#include "launch/run_folder/fork.hpp"
#include "launch/run_folder/resume.hpp"
#include "launch/run_folder/run_folder.hpp"
#include "launch/run_folder/run_lock.hpp"
#include "launch/run_folder/saved_config.hpp"
#include "src/config/run_summary.hpp"
#include "src/core/clock.hpp"
#include "src/core/file.hpp"
#include "src/core/log.hpp"
#include "src/core/words.hpp"
#include "src/data/unicode.hpp"
#include "src/infer/generate.hpp"
#include "src/infer/loaded_model.hpp"
#include "src/plan/host_memory_check.hpp"
#include "src/train/schedule_changes.hpp"
#include "src/train/training_run.hpp"

namespace slipway {
namespace {

constexpr Usage kTrainUsage{
    .summary = "Trains a model on a data folder, on one process or under mpirun (launch/run -n 4 slipway train ...).",
    .forms =
        "slipway train --run DIR --data DIR [--init MODEL] [--config FILE]... [--key value]...\n"
        "slipway train --resume RUN [--data DIR] [--key value]...\n"
        "slipway train --fork RUN [--checkpoint best|STEP] --run NEW [--key value]...",
    .example = "slipway train --run runs/a --data data --model.preset llama-8m --train.steps 2000",
    .notes =
        "USR1 (and without mpirun Ctrl-C and TERM) finishes the step, saves and ends; --resume continues from there, "
        "and\n"
        "--fork continues in a new run with other keys."};

struct TrainOptions {
  std::string run, resume, checkpoint;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("run", self.run, {"folder for a new run", "DIR"}, ResumePolicy::kReporting);
    visit("resume", self.resume, {"continue the run in this folder", "RUN"}, ResumePolicy::kReporting);
    visit("checkpoint", self.checkpoint,
          {"with --resume or --fork: continue from this step, from best, or from a set-aside checkpoint by its name",
           "best|STEP|NAME"},
          ResumePolicy::kReporting);
  }
};

/// Everything the command works with; `fields` binds to the rest, so this never moves.
struct Job {
  TrainOptions options;
  RunConfig config;
  Fields fields;
  Values typed;                     ///< keys of this command line and of its --config files
  SavedConfig saved;                ///< on resume: what the run's folder holds
  std::optional<ForkSource> fork;   ///< of a run that begins with another's checkpoint
  ResumePoint resume_point;         ///< on resume: where the run goes on
  std::optional<ModelBundle> init;  ///< of a run that begins with given weights
  std::optional<Runtime> runtime;   ///< what the run computes with
  const Backend& backend() const { return runtime->backend(); }
  Job() {
    fields.add(options);
    config.add_to(fields);
    fields.alias("data", "data.path");
    fields.alias("init", "train.init");
    fields.alias("fork", "train.fork");
  }
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  bool resumes() const { return !options.resume.empty(); }
  std::filesystem::path run() const { return resumes() ? options.resume : options.run; }
  /// Begins at its first step, or at that of the checkpoint that it forks.
  bool begins() const { return !resume_point.checkpoint; }
};

/// On resume what the run's folder holds comes first, then what was typed.
void read_saved_config(Job& job, const Arguments& arguments) {
  const std::filesystem::path run = job.options.resume;
  if (!std::filesystem::exists(run / "config.ini"))
    throw Error(Fault::kStorage,
                join("--resume ", run.string(), " holds no config.ini, so it is no run; begin one with --run"));
  job.fields.unset_all();
  job.saved = read_run_config(job.fields, run);
  read_arguments(job.fields, arguments, kTrainUsage);
  const auto asked = [&](const char* key) { return job.typed.contains(key) || job.saved.asked.contains(key); };
  // Stretched by this command or an earlier resume: the decay follows the schedule each time.
  const auto first_horizon = job.saved.initial_values.find("optim.schedule_steps");
  const bool other_horizon = first_horizon == job.saved.initial_values.end() ||
                             first_horizon->second != job.fields.at("optim.schedule_steps").get();
  if (other_horizon && !asked("optim.decay_steps")) job.fields.unset("optim.decay_steps");
  const auto compute = job.saved.initial_values.find("numerics.compute");
  if (job.config.numerics.compute == "auto" && compute != job.saved.initial_values.end())
    job.config.numerics.compute = compute->second;  // what it meant when the run began
}

/// A fork begins with every value of its parent, then comes what was typed.
void read_fork_config(Job& job, const Arguments& arguments) {
  const ForkSource& fork = *job.fork;
  job.fields.unset_all();
  job.fields.read_values(fork.values, fork.checkpoint.folder.string());
  read_arguments(job.fields, arguments, kTrainUsage);
  job.fields.keep_latest(kLengthKeys);
  reset_derived_defaults(job.fields, fork.values, fork.asked, job.typed);
}

void check_paths(const Job& job) {
  if (job.config.data.path.empty())
    throw Error(Fault::kConfig, "no data: give the folder that `slipway data prepare` made with --data DIR");
  if (!std::filesystem::exists(job.config.data.path))
    throw Error(Fault::kData, join("there is no data folder at ", job.config.data.path,
                                   "; make it with slipway data prepare, or name it with --data",
                                   comment_hint(job.config.data.path)));
}

/// Says what was not taken, and who shares what was.
void check_gpus(World& world, const Backend& backend, const std::string& device) {
  if (device == "cpu") return;  // nothing of CUDA's is opened for who wants none of it
  const CudaInfo& cuda = find_cuda();
  const bool without_nccl = world.group().all_reduce_max(backend.collectives == nullptr ? 1 : 0) > 0;  // on some host
  if (backend.memory->is_host()) {
    if (cuda.built && !cuda.is_emulated && !cuda.why_not.empty()) log::info("no GPU: " + cuda.why_not);
  } else if (static_cast<std::size_t>(world.local_size()) > cuda.gpus.size()) {
    log::warn(join(world.local_size(), " ranks on this host share ", cuda.gpus.size(),
                   cuda.gpus.size() == 1 ? " GPU" : " GPUs", ": they wait for each other; start one rank a GPU"));
  } else if (without_nccl && world.group().size() > 1) {
    log::warn(
        "NCCL is missing on a host (libnccl.so.2) or in this build (nccl.h): what ranks send each other goes by way of "
        "the host, slowly");
  }
}

/// Every key with its value, as files in the run's folder mean it.
/// Errors   Fault::kConfig for a path that no checkpoint could keep.
Values values_in_folder(const Job& job) {
  const Values values = relative_to_run(job.fields, without_fault_injection(job.fields.values()), job.run());
  for (const auto& [key, value] : values)
    if (!is_utf8(value))
      throw Error(Fault::kConfig, join(key, " is '", value, "', seen from ", job.run().string(),
                                       ", which is not UTF-8, and checkpoints keep it as text: rename that folder"));
  return values;
}

/// What a warning says, without the remedy.
std::string head_of(const std::string& warning) { return warning.substr(0, warning.find("; ")); }

/// The warnings of a run for its last line: they are far above it by then.
std::string repeated(const std::vector<std::string>& warnings) {
  constexpr std::size_t kMaxShown = 5;
  if (warnings.empty()) return "";
  std::string text = join("; ", pluralize(warnings.size(), "warning"), ": ");
  for (std::size_t i = 0; i < std::min(kMaxShown, warnings.size()); ++i)
    text += join(i == 0 ? "" : " | ", head_of(warnings[i]));
  if (warnings.size() > kMaxShown) text += join(" | and ", warnings.size() - kMaxShown, " more in status.json");
  return text;
}

/// What the run leaves in its folder and in every checkpoint of its keys; paths relative to the run.
void record_config(Job& job, Group& all, RunStart& start) {
  Values typed = job.typed;
  for (const auto& [key, value] : {std::pair<std::string, std::string>("train.init", job.config.train.init),
                                   {"train.fork", job.config.train.fork}})
    if (typed.contains(key)) typed[key] = value;  // the very checkpoint
  typed = relative_to_run(job.fields, typed, start.folder);
  const Values resolved = values_in_folder(job);
  const Values before = job.resumes() ? job.saved.asked : job.fork ? job.fork->asked : Values{};
  start.config = resolved;
  job.config.data.path = resolved.at("data.path");
  job.config.train.init = resolved.at("train.init");
  job.config.train.fork = resolved.at("train.fork");
  start.asked = merge_overrides(relative_to_run(job.fields, before, start.folder), typed);
  if (job.resumes()) start.begun = [&job, typed](std::int64_t step) { append_history(job.run(), step, typed); };
  else if (all.rank() == 0)
    write_run_config(start.folder, job.fields, typed, resolved,
                     {join("runtime.threads = ", job.backend().threads),
                      join("runtime.instructions = ", describe_instructions(job.backend())),
                      join("device = ", job.backend().device)});
  all.barrier();
}

/// The length and schedule with which a checkpoint was trained.
RunSchedule run_schedule_of(const Values& values) {
  RunConfig config;
  Fields fields;
  config.add_to(fields);
  for (const auto& [key, value] : values)
    if (key == "train.steps" || key.starts_with("optim.")) fields.set(key, value);
  return {config.train.steps, config.optim.lr_schedule()};
}

/// Warns of what these keys do and few people mean.
void warn_of_keys(const Job& job, const std::optional<Values>& before, std::int64_t done) {
  int length_given = 0;
  for (const std::string& key : kLengthKeys)
    if (job.typed.contains(key)) length_given = std::max(length_given, job.fields.at(key).given_in);
  const bool schedule_given =
      job.typed.contains("optim.schedule_steps") && job.fields.at("optim.schedule_steps").given_in >= length_given;
  const bool rate_given = std::ranges::any_of(std::array{"optim.peak_lr", "optim.name", "optim.schedule"},
                                              [&](const char* key) { return job.typed.contains(key); });
  const std::optional<RunSchedule> earlier = before ? std::optional(run_schedule_of(*before)) : std::nullopt;
  for (const std::string& message : schedule_warnings(earlier, {job.config.train.steps, job.config.optim.lr_schedule()},
                                                      done, schedule_given, rate_given))
    log::warn(message);
  if (job.resumes()) return;  // what cannot change any more
  for (const std::string& message : job.config.warnings()) log::warn(message);
  if (!job.typed.contains("model.preset")) return;
  std::string older;  // keys of a file, such as another run's resolved.ini, that the preset came too late for
  for (const Field& field : job.fields.all())
    if (field.key.starts_with("model.") && field.given() && field.given_in < job.fields.at("model.preset").given_in)
      older += join(older.empty() ? "" : ", ", field.key);
  if (!older.empty())
    log::warn(join("model.preset ", job.config.model.preset, " leaves ", older,
                   " as the file before it gives them, so this is no ", job.config.model.preset,
                   ": leave them out of the file (a run's config.ini has only what was asked for)"));
}

/// From here on the folder is this run's.
RunEnd start_run(Job& job, World& world, Mesh& mesh, const Corpus& corpus, const RunProgress& consumed) {
  Group& all = world.group();
  const std::filesystem::path run = job.run();
  log::info(join("slipway ", SLIPWAY_VERSION, " on ", job.backend().device, " (", hardware_of(job.backend()), "). ",
                 how_to_stop(world.launcher())));
  if (!world.launcher().stale.empty())
    log::warn(join(world.launcher().stale, " is set, but its launcher is gone: training on one process"));
  const DataSizes sizes = sizes_of(corpus, job.config);
  log::info(summary_of(job.config, sizes, consumed));
  check_threads(world, job.backend().threads);
  check_gpus(world, job.backend(), job.config.parallel.device);

  RunStart start{.folder = run};
  std::optional<Values> before;  // how the checkpoint that we go on from was trained
  std::int64_t done = 0;
  if (!job.resume_point.message.empty()) log::info(job.resume_point.message);
  if (const auto& checkpoint = job.resume_point.checkpoint) {
    verify_together(checkpoint->folder, all);
    start.checkpoint = checkpoint->folder;
    done = checkpoint->step;
    const CheckpointInfo info = read_manifest(checkpoint->folder).info;
    with_manifest_errors(checkpoint->folder, [&] {
      before = values_of(info.config);
      check_immutable_keys(*before, job.fields, "its checkpoint was trained with", run);
      keep_compute_dtype(job.config, info);
    });
  } else if (job.fork) {
    start.checkpoint = job.fork->checkpoint.folder;
    start.fork = with_manifest_errors(job.fork->checkpoint.folder, [&] {
      return inherit_from_parent(*job.fork, job.fields.values(), run, all.rank() == 0);
    });
    done = job.fork->checkpoint.step;
    before = job.fork->values;
  } else if (job.init) {
    start.init = job.init->source.get();
    log::info(describe_initial_weights(*job.init));
  }
  const bool finished = done >= job.config.train.steps;
  if (all.rank() == 0 && !finished) warn_of_keys(job, before, done);
  record_config(job, all, start);

  if (finished)
    log::info(
        join("this run is finished: step ", done, " of ", job.config.train.steps, "; raise train.steps to go on"));
  if (!job.resumes() && job.config.train.rehearsal)
    rehearse(world, mesh, job.backend(), job.config, corpus, run, start.config);
  const RunHooks hooks{.pending_signal = pending_signal, .sample = [&](Model& model) {
                         return mesh.tensor->size() > 1
                                    ? std::string("(none: sampling needs mesh.tensor = 1)")
                                    : greedy_sample(model, corpus.tokenizer(), "", job.config.reporting.sample_tokens);
                       }};
  const double begin_s = now_s();
  const Backend backend = job.config.train.profile > 0 ? profiled(job.backend()) : job.backend();
  const RunEnd end = run_training(world, mesh, backend, job.config, corpus, start, hooks);
  const std::string next = end.status == "ok"
                               ? "next: slipway qa "
                               : join("continue: ", how_to_start(world.launcher()), "slipway train --resume "),
                    of_step = end.val_step == end.step ? "" : join(" (of step ", end.val_step, ")"),
                    loss = end.val_loss ? join(", Val Loss ", std::fixed, std::setprecision(4), *end.val_loss, of_step)
                                        : "";
  if (end.reason.empty() && !finished)
    log::info(join(end.status == "ok" ? "done" : "stopped and saved", " at step ", end.step, " of ",
                   job.config.train.steps, " after ", human_time(now_s() - begin_s), loss, "; ", next, run.string(),
                   repeated(end.warnings)));
  return end;
}

/// Puts every key of the job in place and refuses what cannot be, before a new run has a folder; then trains. Takes the
/// lock of the run's folder as soon as there is one.
RunEnd prepare_and_train(Job& job, const Arguments& arguments, World& world, std::optional<RunLock>& lock) {
  Group& all = world.group();
  const std::filesystem::path run = job.run();
  const auto take_folder = [&] {
    lock.emplace(run, all);
    log::open_events(run / "events" / join("rank-", all.rank(), ".jsonl"));
    if (all.rank() == 0) remove_rehearsal(run);  // of a run that was killed in the middle of it
  };
  RunProgress done;
  if (job.resumes()) {
    take_folder();
    job.resume_point = choose_checkpoint(run, job.options.checkpoint, all);
    if (const auto& found = job.resume_point.checkpoint)
      done = with_manifest_errors(found->folder, [&] { return progress_of(CheckpointReader(found->folder).info()); });
  }
  if (job.begins() && !job.config.train.fork.empty()) {
    job.fork = open_fork(job.config.train.fork, job.resumes() ? "" : job.options.checkpoint, all);
    if (!job.resumes()) read_fork_config(job, arguments);
    job.config.train.fork = job.fork->checkpoint.folder.string();
  }
  job.runtime.emplace(runtime_options(job.config.parallel, world));
  job.config.set_device(job.backend());
  const Reduction reduction = job.config.numerics.collective_reduction();
  if (reduction == Reduction::kLibrary && job.backend().collectives == nullptr)
    throw Error(Fault::kConfig, join("numerics.reduction = library takes NCCL's sums over GPUs, and this run is on ",
                                     job.backend().device, ": leave it out"));
  check_paths(job);
  Mesh mesh = make_mesh(world, job.config.parallel.tensor, reduction);
  set_watchdog(job.config.parallel.watchdog_s);

  job.config.check();
  const Corpus corpus = Corpus::open(job.config.data.path);
  const DataSizes sizes = sizes_of(corpus, job.config);
  if (job.begins()) job.init = open_initial_weights(job.config, job.fields);
  if (job.fork)
    done =
        with_manifest_errors(job.fork->checkpoint.folder, [&] { return fork_progress(*job.fork, job.config, corpus); });
  job.config.resolve(sizes.sequences_per_epoch, sizes.validation_tokens, done);
  if (job.resumes()) check_immutable_keys(job.saved.initial_values, job.fields, "this run was begun with", run);
  else job.config.numerics.compute = name(job.config.compute_dtype());
  ReductionSlots::make(job.config.train.batch, job.config.train.micro_batch, job.config.numerics.slots,
                       mesh.data->size());
  const ModelSpec model = job.config.model.spec(corpus.tokenizer().vocabulary());
  TensorParallelShard::of(model, mesh.tensor->rank(), mesh.tensor->size());
  check_host_memory(job.config, model, mesh.data->size(), smallest_host_budget(all, world.local_size()));
  if (job.init) check_initial_weights(job.config, *job.init, model, corpus.tokenizer());
  if (job.fork)
    with_manifest_errors(job.fork->checkpoint.folder,
                         [&] { check_fork(*job.fork, job.config, corpus, job.typed.contains("data.path")); });
  values_in_folder(job);  // what it refuses is refused before there is a folder
  if (!job.resumes()) {
    make_run_folder(run, all);
    take_folder();
  }
  const CrashRecord crashes(run, all.rank());
  return start_run(job, world, mesh, corpus, done);
}

/// What is thrown is written into the folder once it is this run's, by any rank, the first of them: it may be the only
/// one that knows.
int train(Job& job, const Arguments& arguments, World& world) {
  log::set_rank(world.group().rank());
  std::optional<RunLock> lock;
  try {
    const RunEnd end = prepare_and_train(job, arguments, world, lock);
    if (!end.reason.empty()) throw Error(Fault::kData, join(end.reason, "; step ", end.step, " is saved"));
    return end.signal > 0 ? exit_status_of_signal(end.signal) : 0;
  } catch (const Error& error) {
    if (lock)
      record_failure(job.run(), error.fault() == Fault::kNumeric ? "numerical" : "failed", name(error.fault()),
                     error.what());
    throw;
  } catch (const std::exception& error) {
    if (lock) record_failure(job.run(), "failed", name(Fault::kBug), error.what());
    throw;
  }
}

}  // namespace

int command_train(const Arguments& arguments) {
  std::optional<World> world;
  return command_train(arguments, [&]() -> World& { return world.emplace(); });
}

int command_train(const Arguments& arguments, const std::function<World&()>& start_world) {
  start_signal_thread();
  Job job;
  if (!read_arguments(job.fields, arguments, kTrainUsage)) return 0;
  arguments.refuse_targets("train");
  if (job.options.run.empty() == job.options.resume.empty())
    throw Error(Fault::kConfig, job.config.train.fork.empty() || !job.options.resume.empty()
                                    ? "give either --run DIR for a new run or --resume DIR to continue one"
                                    : "--fork begins a new run: name its folder with --run NEW");
  job.fields.keep_latest(kLengthKeys);
  job.typed = without_fault_injection(job.fields.given_values());
  if (job.resumes()) {
    for (const char* key : {"init", "fork"})
      if (job.typed.contains(join("train.", key)))
        throw Error(Fault::kConfig, join("--", key, " begins a new run and --resume continues one: give one of them"));
    read_saved_config(job, arguments);
  } else if (!job.config.train.fork.empty() && !job.config.train.init.empty()) {
    throw Error(Fault::kConfig, "--fork and --init both say what the run begins with: give one of them");
  } else if (!job.options.checkpoint.empty() && job.config.train.fork.empty()) {
    throw Error(
        Fault::kConfig,
        "--checkpoint chooses where --resume or --fork goes on; for a new run give --fork RUN, or --init MODEL, "
        "which may be a checkpoint folder");
  }
  job.fields.keep_latest(kLengthKeys);
  open_hdf5();
  return train(job, arguments, start_world());
}

}  // namespace slipway
