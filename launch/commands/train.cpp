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
    .synopsis =
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

/// The state of the command. `fields` refers to the other members, so this is not movable.
struct TrainCommand {
  TrainOptions options;
  RunConfig config;
  Fields fields;
  Values cli_overrides;                        ///< keys of this command line and of its --config files
  SavedConfig saved;                           ///< on resume: the keys that the run folder stores
  std::optional<ForkSource> fork;              ///< the checkpoint of another run that this run begins with
  ResumePoint resume_point;                    ///< on resume: the checkpoint to continue from
  std::optional<ModelBundle> initial_weights;  ///< with train.init: the model whose weights the run begins with
  std::optional<Runtime> runtime;              ///< owns the backend
  const Backend& backend() const { return runtime->backend(); }
  TrainCommand() {
    fields.add(options);
    config.add_to(fields);
    fields.alias("data", "data.path");
    fields.alias("init", "train.init");
    fields.alias("fork", "train.fork");
  }
  TrainCommand(const TrainCommand&) = delete;
  TrainCommand& operator=(const TrainCommand&) = delete;

  bool is_resume() const { return !options.resume.empty(); }
  std::filesystem::path run_folder() const { return is_resume() ? options.resume : options.run; }
  /// Begins at its first step, or at that of the checkpoint that it forks.
  bool is_first_start() const { return !resume_point.checkpoint; }
};

/// On resume: reads the keys that the run folder stores, then those of the command line.
void read_saved_config(TrainCommand& command, const Arguments& arguments) {
  const std::filesystem::path run_folder = command.options.resume;
  if (!std::filesystem::exists(run_folder / "config.ini"))
    throw Error(Fault::kStorage,
                join("--resume ", run_folder.string(), " holds no config.ini, so it is no run; begin one with --run"));
  command.fields.unset_all();
  command.saved = read_run_config(command.fields, run_folder);
  read_arguments(command.fields, arguments, kTrainUsage);
  const auto is_overridden = [&](const char* key) {
    return command.cli_overrides.contains(key) || command.saved.overrides.contains(key);
  };
  // When this command or an earlier resume changed the horizon, the decay's default follows it.
  const auto initial_horizon = command.saved.initial_values.find("optim.schedule_steps");
  const bool is_horizon_changed = initial_horizon == command.saved.initial_values.end() ||
                                  initial_horizon->second != command.fields.at("optim.schedule_steps").get();
  if (is_horizon_changed && !is_overridden("optim.decay_steps")) command.fields.unset("optim.decay_steps");
  const auto initial_compute = command.saved.initial_values.find("numerics.compute");
  if (command.config.numerics.compute == "auto" && initial_compute != command.saved.initial_values.end())
    command.config.numerics.compute = initial_compute->second;  // the type that auto selected when the run began
}

/// For a fork: reads every value of its parent, then the keys of the command line.
void read_fork_config(TrainCommand& command, const Arguments& arguments) {
  const ForkSource& fork = *command.fork;
  command.fields.unset_all();
  command.fields.read_values(fork.values, fork.checkpoint.folder.string());
  read_arguments(command.fields, arguments, kTrainUsage);
  command.fields.unset_overridden(kRunLengthKeys);
  reset_derived_defaults(command.fields, fork.values, fork.overrides, command.cli_overrides);
}

void check_paths(const TrainCommand& command) {
  if (command.config.data.path.empty())
    throw Error(Fault::kConfig, "no data: give the folder that `slipway data prepare` made with --data DIR");
  if (!std::filesystem::exists(command.config.data.path))
    throw Error(Fault::kData, join("there is no data folder at ", command.config.data.path,
                                   "; make it with slipway data prepare, or name it with --data",
                                   comment_hint(command.config.data.path)));
}

/// Logs why no GPU is used, which ranks share one, and where NCCL is missing.
void check_gpus(World& world, const Backend& backend, const std::string& device) {
  if (device == "cpu") return;  // a run on the CPU does not load CUDA
  const CudaInfo& cuda = find_cuda();
  const bool without_nccl = world.group().all_reduce_max(backend.collectives == nullptr ? 1 : 0) > 0;  // on some host
  if (backend.memory->is_host()) {
    if (cuda.is_built && !cuda.is_emulated && !cuda.unavailable_reason.empty())
      log::info("no GPU: " + cuda.unavailable_reason);
  } else if (static_cast<std::size_t>(world.local_size()) > cuda.gpus.size()) {
    log::warn(join(world.local_size(), " ranks on this host share ", cuda.gpus.size(),
                   cuda.gpus.size() == 1 ? " GPU" : " GPUs", ": they wait for each other; start one rank a GPU"));
  } else if (without_nccl && world.group().size() > 1) {
    log::warn(
        "NCCL is missing on a host (libnccl.so.2) or in this build (nccl.h): what ranks send each other goes by way of "
        "the host, slowly");
  }
}

/// The value of every key, with paths relative to the run folder.
/// Errors   Fault::kConfig for a path that is not UTF-8, which a checkpoint cannot store.
Values values_relative_to_run(const TrainCommand& command) {
  const Values values =
      relative_to_run(command.fields, without_fault_injection(command.fields.values()), command.run_folder());
  for (const auto& [key, value] : values)
    if (!is_utf8(value))
      throw Error(Fault::kConfig, join(key, " is '", value, "', seen from ", command.run_folder().string(),
                                       ", which is not UTF-8, and checkpoints keep it as text: rename that folder"));
  return values;
}

/// A warning without its hint.
std::string first_clause(const std::string& warning) { return warning.substr(0, warning.find("; ")); }

/// The warnings of a run, repeated in its last line.
std::string warnings_summary(const std::vector<std::string>& warnings) {
  constexpr std::size_t kMaxShown = 5;
  if (warnings.empty()) return "";
  std::string text = join("; ", pluralize(warnings.size(), "warning"), ": ");
  for (std::size_t i = 0; i < std::min(kMaxShown, warnings.size()); ++i)
    text += join(i == 0 ? "" : " | ", first_clause(warnings[i]));
  if (warnings.size() > kMaxShown) text += join(" | and ", warnings.size() - kMaxShown, " more in status.json");
  return text;
}

/// Sets the keys that the run's checkpoints store, with paths relative to the run, and writes them to the run folder.
void record_config(TrainCommand& command, Group& world_group, RunSetup& setup) {
  Values cli_overrides = command.cli_overrides;
  for (const auto& [key, value] : {std::pair<std::string, std::string>("train.init", command.config.train.init),
                                   {"train.fork", command.config.train.fork}})
    if (cli_overrides.contains(key)) cli_overrides[key] = value;  // resolved to the checkpoint itself
  cli_overrides = relative_to_run(command.fields, cli_overrides, setup.folder);
  const Values resolved = values_relative_to_run(command);
  const Values previous_overrides = command.is_resume() ? command.saved.overrides
                                    : command.fork      ? command.fork->overrides
                                                        : Values{};
  setup.config = resolved;
  command.config.data.path = resolved.at("data.path");
  command.config.train.init = resolved.at("train.init");
  command.config.train.fork = resolved.at("train.fork");
  setup.overrides = merge_overrides(relative_to_run(command.fields, previous_overrides, setup.folder), cli_overrides);
  if (command.is_resume())
    setup.on_started = [&command, cli_overrides](std::int64_t step) {
      append_history(command.run_folder(), step, cli_overrides);
    };
  else if (world_group.rank() == 0)
    write_run_config(setup.folder, command.fields, cli_overrides, resolved,
                     {join("runtime.threads = ", command.backend().threads),
                      join("runtime.instructions = ", describe_instructions(command.backend())),
                      join("device = ", command.backend().device)});
  world_group.barrier();
}

/// The run length and schedule with which a checkpoint was trained.
RunSchedule run_schedule_of(const Values& values) {
  RunConfig config;
  Fields fields;
  config.add_to(fields);
  for (const auto& [key, value] : values)
    if (key == "train.steps" || key.starts_with("optim.")) fields.set(key, value);
  return {config.train.steps, config.optim.lr_schedule()};
}

/// Warns of keys that have effects which are rarely intended.
void warn_about_keys(const TrainCommand& command, const std::optional<Values>& checkpoint_values,
                     std::int64_t start_step) {
  int length_source_index = 0;
  for (const std::string& key : kRunLengthKeys)
    if (command.cli_overrides.contains(key))
      length_source_index = std::max(length_source_index, command.fields.at(key).source_index);
  const bool explicit_schedule = command.cli_overrides.contains("optim.schedule_steps") &&
                                 command.fields.at("optim.schedule_steps").source_index >= length_source_index;
  const bool explicit_lr = std::ranges::any_of(std::array{"optim.peak_lr", "optim.name", "optim.schedule"},
                                               [&](const char* key) { return command.cli_overrides.contains(key); });
  const std::optional<RunSchedule> previous_schedule =
      checkpoint_values ? std::optional(run_schedule_of(*checkpoint_values)) : std::nullopt;
  for (const std::string& message :
       schedule_warnings(previous_schedule, {command.config.train.steps, command.config.optim.lr_schedule()},
                         start_step, explicit_schedule, explicit_lr))
    log::warn(message);
  if (command.is_resume()) return;  // the warnings below concern keys that a resume cannot change
  for (const std::string& message : command.config.warnings()) log::warn(message);
  if (!command.cli_overrides.contains("model.preset")) return;
  std::string earlier_keys;  // set by a file before the preset, such as another run's resolved.ini
  for (const Field& field : command.fields.all())
    if (field.key.starts_with("model.") && field.is_set() &&
        field.source_index < command.fields.at("model.preset").source_index)
      earlier_keys += join(earlier_keys.empty() ? "" : ", ", field.key);
  if (!earlier_keys.empty())
    log::warn(join("model.preset ", command.config.model.preset, " leaves ", earlier_keys,
                   " as the file before it gives them, so this is no ", command.config.model.preset,
                   ": leave them out of the file (a run's config.ini has only what was asked for)"));
}

/// Trains in the run folder, which is locked by now.
RunResult start_run(TrainCommand& command, World& world, Mesh& mesh, const Corpus& corpus,
                    const RunProgress& progress) {
  Group& world_group = world.group();
  const std::filesystem::path run_folder = command.run_folder();
  log::info(join("slipway ", SLIPWAY_VERSION, " on ", command.backend().device, " (", hardware_name(command.backend()),
                 "). ", stop_hint(world.launcher())));
  if (!world.launcher().stale_variable.empty())
    log::warn(join(world.launcher().stale_variable, " is set, but its launcher is gone: training on one process"));
  const DataSizes sizes = sizes_of(corpus, command.config);
  log::info(summary_of(command.config, sizes, progress));
  check_threads(world, command.backend().threads);
  check_gpus(world, command.backend(), command.config.parallel.device);

  RunSetup setup{.folder = run_folder};
  std::optional<Values> checkpoint_values;  // the keys with which the checkpoint to continue from was trained
  std::int64_t start_step = 0;
  if (!command.resume_point.message.empty()) log::info(command.resume_point.message);
  if (const auto& checkpoint = command.resume_point.checkpoint) {
    verify_on_all_ranks(checkpoint->folder, world_group);
    setup.checkpoint = checkpoint->folder;
    start_step = checkpoint->step;
    const CheckpointInfo info = read_manifest(checkpoint->folder).info;
    with_manifest_errors(checkpoint->folder, [&] {
      checkpoint_values = values_of(info.config);
      check_immutable_keys(*checkpoint_values, command.fields, "its checkpoint was trained with", run_folder);
      keep_compute_dtype(command.config, info);
    });
  } else if (command.fork) {
    setup.checkpoint = command.fork->checkpoint.folder;
    setup.fork = with_manifest_errors(command.fork->checkpoint.folder, [&] {
      return inherit_from_parent(*command.fork, command.fields.values(), run_folder, world_group.rank() == 0);
    });
    start_step = command.fork->checkpoint.step;
    checkpoint_values = command.fork->values;
  } else if (command.initial_weights) {
    setup.init = command.initial_weights->source.get();
    log::info(describe_initial_weights(*command.initial_weights));
  }
  const bool is_finished = start_step >= command.config.train.steps;
  if (world_group.rank() == 0 && !is_finished) warn_about_keys(command, checkpoint_values, start_step);
  record_config(command, world_group, setup);

  if (is_finished)
    log::info(join("this run is finished: step ", start_step, " of ", command.config.train.steps,
                   "; raise train.steps to go on"));
  if (!command.is_resume() && command.config.train.rehearsal)
    rehearse(world, mesh, command.backend(), command.config, corpus, run_folder, setup.config);
  const RunHooks hooks{.pending_signal = pending_signal, .sample = [&](Model& model) {
                         return mesh.tensor->size() > 1 ? std::string("(none: sampling needs mesh.tensor = 1)")
                                                        : greedy_sample(model, corpus.tokenizer(), "",
                                                                        command.config.reporting.sample_tokens);
                       }};
  const double begin_s = now_s();
  const Backend backend = command.config.train.profile > 0 ? profiled(command.backend()) : command.backend();
  const RunResult result = run_training(world, mesh, backend, command.config, corpus, setup, hooks);
  const std::string next_command = result.status == "ok"
                                       ? "next: slipway qa "
                                       : join("continue: ", start_command(world.launcher()), "slipway train --resume "),
                    val_step_text = result.val_step == result.step ? "" : join(" (of step ", result.val_step, ")"),
                    val_loss_text = result.val_loss ? join(", Val Loss ", std::fixed, std::setprecision(4),
                                                           *result.val_loss, val_step_text)
                                                    : "";
  if (result.reason.empty() && !is_finished)
    log::info(join(result.status == "ok" ? "done" : "stopped and saved", " at step ", result.step, " of ",
                   command.config.train.steps, " after ", human_time(now_s() - begin_s), val_loss_text, "; ",
                   next_command, run_folder.string(), warnings_summary(result.warnings)));
  return result;
}

/// Resolves and checks every key before the folder of a new run is made, then trains. Locks the run folder as soon as
/// it exists.
RunResult prepare_and_train(TrainCommand& command, const Arguments& arguments, World& world,
                            std::optional<RunLock>& lock) {
  Group& world_group = world.group();
  const std::filesystem::path run_folder = command.run_folder();
  const auto lock_run_folder = [&] {
    lock.emplace(run_folder, world_group);
    log::open_events(run_folder / "events" / join("rank-", world_group.rank(), ".jsonl"));
    if (world_group.rank() == 0) remove_rehearsal(run_folder);  // left by a run that was killed during its rehearsal
  };
  RunProgress progress;
  if (command.is_resume()) {
    lock_run_folder();
    command.resume_point = choose_checkpoint(run_folder, command.options.checkpoint, world_group);
    if (const auto& checkpoint = command.resume_point.checkpoint)
      progress = with_manifest_errors(checkpoint->folder,
                                      [&] { return progress_of(CheckpointReader(checkpoint->folder).info()); });
  }
  if (command.is_first_start() && !command.config.train.fork.empty()) {
    command.fork =
        open_fork(command.config.train.fork, command.is_resume() ? "" : command.options.checkpoint, world_group);
    if (!command.is_resume()) read_fork_config(command, arguments);
    command.config.train.fork = command.fork->checkpoint.folder.string();
  }
  command.runtime.emplace(runtime_options(command.config.parallel, world));
  command.config.set_device_properties(command.backend());
  const Reduction reduction = command.config.numerics.collective_reduction();
  if (reduction == Reduction::kLibrary && command.backend().collectives == nullptr)
    throw Error(Fault::kConfig, join("numerics.reduction = library takes NCCL's sums over GPUs, and this run is on ",
                                     command.backend().device, ": leave it out"));
  check_paths(command);
  Mesh mesh = make_mesh(world, command.config.parallel.tensor, reduction);
  start_watchdog(command.config.parallel.watchdog_s);

  command.config.check();
  const Corpus corpus = Corpus::open(command.config.data.path);
  const DataSizes sizes = sizes_of(corpus, command.config);
  if (command.is_first_start()) command.initial_weights = open_initial_weights(command.config, command.fields);
  if (command.fork)
    progress = with_manifest_errors(command.fork->checkpoint.folder,
                                    [&] { return fork_progress(*command.fork, command.config, corpus); });
  command.config.resolve(sizes.sequences_per_epoch, sizes.validation_tokens, progress);
  if (command.is_resume())
    check_immutable_keys(command.saved.initial_values, command.fields, "this run was begun with", run_folder);
  else command.config.numerics.compute = name(command.config.compute_dtype());
  ReductionSlots::make(command.config.train.batch, command.config.train.micro_batch, command.config.numerics.slots,
                       mesh.data->size());
  const ModelSpec model = command.config.model.spec(corpus.tokenizer().vocabulary_size());
  TensorParallelShard::of(model, mesh.tensor->rank(), mesh.tensor->size());
  check_host_memory(command.config, model, mesh.data->size(), smallest_host_budget(world_group, world.local_size()));
  if (command.initial_weights)
    check_initial_weights(command.config, *command.initial_weights, model, corpus.tokenizer());
  if (command.fork)
    with_manifest_errors(command.fork->checkpoint.folder, [&] {
      check_fork(*command.fork, command.config, corpus, command.cli_overrides.contains("data.path"));
    });
  values_relative_to_run(command);  // throws before the folder is made
  if (!command.is_resume()) {
    make_run_folder(run_folder, world_group);
    lock_run_folder();
  }
  const CrashRecord crash_record(run_folder, world_group.rank());
  return start_run(command, world, mesh, corpus, progress);
}

/// Trains, and records an error in the run folder once it is locked. The first rank that fails records it, since it may
/// be the only one that knows the cause.
int train(TrainCommand& command, const Arguments& arguments, World& world) {
  log::set_rank(world.group().rank());
  std::optional<RunLock> lock;
  try {
    const RunResult result = prepare_and_train(command, arguments, world, lock);
    if (!result.reason.empty()) throw Error(Fault::kData, join(result.reason, "; step ", result.step, " is saved"));
    return result.signal > 0 ? exit_status_of_signal(result.signal) : 0;
  } catch (const Error& error) {
    if (lock)
      record_failure(command.run_folder(), error.fault() == Fault::kNumeric ? "numerical" : "failed",
                     name(error.fault()), error.what());
    throw;
  } catch (const std::exception& error) {
    if (lock) record_failure(command.run_folder(), "failed", name(Fault::kBug), error.what());
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
  TrainCommand command;
  if (!read_arguments(command.fields, arguments, kTrainUsage)) return 0;
  arguments.reject_positionals("train");
  if (command.options.run.empty() == command.options.resume.empty())
    throw Error(Fault::kConfig, command.config.train.fork.empty() || !command.options.resume.empty()
                                    ? "give either --run DIR for a new run or --resume DIR to continue one"
                                    : "--fork begins a new run: name its folder with --run NEW");
  command.fields.unset_overridden(kRunLengthKeys);
  command.cli_overrides = without_fault_injection(command.fields.explicit_values());
  if (command.is_resume()) {
    for (const char* key : {"init", "fork"})
      if (command.cli_overrides.contains(join("train.", key)))
        throw Error(Fault::kConfig, join("--", key, " begins a new run and --resume continues one: give one of them"));
    read_saved_config(command, arguments);
  } else if (!command.config.train.fork.empty() && !command.config.train.init.empty()) {
    throw Error(Fault::kConfig, "--fork and --init both say what the run begins with: give one of them");
  } else if (!command.options.checkpoint.empty() && command.config.train.fork.empty()) {
    throw Error(
        Fault::kConfig,
        "--checkpoint chooses where --resume or --fork goes on; for a new run give --fork RUN, or --init MODEL, "
        "which may be a checkpoint folder");
  }
  command.fields.unset_overridden(kRunLengthKeys);
  init_hdf5();
  return train(command, arguments, start_world());
}

}  // namespace slipway
