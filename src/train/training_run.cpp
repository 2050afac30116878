#include "src/train/training_run.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <random>
#include <type_traits>

#include "comm/watchdog.hpp"
#include "io/checkpoint/manifest_errors.hpp"
#include "io/checkpoint/provenance.hpp"
#include "io/model/model_spec_json.hpp"
#include "kernels/backend/cpu_backend.hpp"
#include "kernels/backend/device.hpp"
#include "kernels/instrument/device_peaks.hpp"
#include "src/core/clock.hpp"
#include "src/core/file.hpp"
#include "src/core/hash.hpp"
#include "src/core/json_number.hpp"
#include "src/core/log.hpp"
#include "src/core/terminal.hpp"
#include "src/core/words.hpp"
#include "src/model/model_tensors.hpp"
#include "src/monitor/metrics.hpp"
#include "src/monitor/run_watch.hpp"
#include "src/monitor/throughput.hpp"
#include "src/plan/device_memory_check.hpp"
#include "src/plan/gemm_autotune.hpp"
#include "src/plan/profile_report.hpp"
#include "src/plan/run_estimate.hpp"
#include "src/train/checkpoint_manager.hpp"
#include "src/train/run_banner.hpp"
#include "src/train/set_aside.hpp"

namespace slipway {
namespace {

/// A name for this run that no other has; rank 0's is everyone's.
std::string new_run_id(Group& world_group) {
  std::random_device device;
  char id[16];
  const std::string digest = sha256_hex(join(utc_now(), ::getpid(), device(), device())).substr(0, sizeof id);
  std::copy_n(digest.begin(), sizeof id, id);
  world_group.broadcast(id, sizeof id, 0);
  return {id, sizeof id};
}

/// The loop around Trainer::step: validation, checkpoints, signals, reports.
class TrainingRun {
 public:
  TrainingRun(World& world, Mesh& mesh, const Backend& backend, const RunConfig& config, const Corpus& corpus,
              const RunSetup& start, const RunHooks& hooks, const RunEstimate& estimate, const GemmPeak& peak,
              double bandwidth)
      : world_(world),
        world_group_(world.group()),
        mesh_(mesh),
        backend_(backend),
        config_(config),
        corpus_(corpus),
        start_(start),
        hooks_(hooks),
        estimate_(estimate),
        peak_(peak),
        bandwidth_(bandwidth),
        model_(config.model.spec(corpus.tokenizer().vocabulary_size()), backend, *mesh.tensor,
               {.compute_dtype = config.compute_dtype(),
                .slots = config.numerics.slots,
                .recompute = config.recompute(),
                .use_cuda_graphs = config.parallel.graphs}),
        throughput_(training_flops(model_.spec(), static_cast<double>(config.train.batch) * config.train.sequence),
                    peak.flops),
        watch_(model_.spec().vocabulary, config.optim, world_group_, backend.threads, peak),
        loader_(corpus, Split::kTrain, config.data, config.train.sequence, config.train.seed),
        checkpoints_(start.folder / "checkpoints", config.reporting.checkpoint_keep, history_, world_group_,
                     hooks.checkpoint_published) {
    if (config.reporting.validate_every > 0 && corpus.documents(Split::kValidation) > 0)
      validation_.emplace(corpus, Split::kValidation, config.data, config.train.sequence, /*seed=*/0);
    trainer_.emplace(config, model_, backend, loader_, validation_ ? &*validation_ : nullptr, mesh, world_group_);
  }

  RunResult run() {
    begin();
    RunResult end = loop();
    end_profile();
    finish(end);
    return end;
  }

 private:
  bool is_rank0() const { return world_group_.rank() == 0; }

  void begin();
  void resume();
  void resume(CheckpointReader& reader);
  void check_disk() const;
  std::int64_t sequences_to_tokens(std::uint64_t count) const {
    return static_cast<std::int64_t>(count) * config_.train.sequence;
  }
  RunResult loop();
  void queue_step();
  void report_pending(std::size_t max_pending, bool will_validate);
  std::int64_t validations_left(std::int64_t step) const;
  void write(const StepRecord& record, bool last);
  template <class Call>
  std::invoke_result_t<Call> drain_saves_on_nan(const Call& call);
  void profile_after(std::int64_t step);
  void end_profile();
  void report_profile(int steps);
  template <class Call>
  void exclude_from_steps(const Call& call);
  int should_stop();
  void validate(StepRecord& record);
  void save();
  void write_status(const RunResult& end, const std::vector<std::string>& warnings) const;
  void finish(RunResult& end);
  CheckpointInfo info() const;

  World& world_;
  Group& world_group_;
  Mesh& mesh_;
  const Backend& backend_;
  const RunConfig& config_;
  const Corpus& corpus_;
  const RunSetup& start_;
  const RunHooks& hooks_;
  const RunEstimate& estimate_;
  GemmPeak peak_;     // of all ranks together
  double bandwidth_;  // of this rank, where it traces
  MeasuredRun measured_;
  Model model_;
  Throughput throughput_;
  RunWatch watch_;
  Loader loader_;
  std::optional<Loader> validation_;
  std::optional<Trainer> trainer_;
  struct PendingStep {
    StepRecord record;
    double queued_s = 0;  ///< when
  };
  std::deque<PendingStep> pending_;    // queued, not yet reported by the trainer
  double last_report_s_ = 0;           // when the last report came
  std::optional<MetricsLog> metrics_;  // on rank 0
  std::string run_id_;
  Json history_ = Json::object();   // val_losses: [{step, val_loss}]
  Json sections_ = Json::object();  // goes from checkpoint to checkpoint: where the first weights came from
  std::optional<double> last_val_loss_;
  std::int64_t first_step_ = 0;     // steps done when this process began
  std::int64_t tokens_before_ = 0;  // seen beyond what the loader's position says: a parent's, in other sequences
  CheckpointManager checkpoints_;
};

void TrainingRun::begin() {
  if (start_.checkpoint) {
    resume();
  } else {
    run_id_ = new_run_id(world_group_);
    if (start_.init != nullptr) {
      model_.parameters().load(*start_.init);
      sections_["init"] = {{"model", config_.train.init}, {"provenance_sha256", provenance_sha256(*start_.init)}};
    } else {
      model_.parameters().initialize(config_.train.seed);
    }
    model_.update_compute_copy();
    history_["val_losses"] = Json::array();
  }
  world_group_.barrier();
  if (is_rank0()) {  // whatever refuses has done so by here: from now on the folder changes
    if (trainer_->steps_done() < config_.train.steps) check_disk();
    std::int64_t keep_curves_to = trainer_->steps_done();
    if (start_.checkpoint && !start_.fork && !set_aside_suffix(*start_.checkpoint).empty())
      keep_curves_to = restore_set_aside(start_.folder, {trainer_->steps_done(), *start_.checkpoint});
    checkpoints_.prune_after(trainer_->steps_done());
    if (start_.on_started) start_.on_started(trainer_->steps_done());
    write_status({.status = "running", .step = trainer_->steps_done()}, log::warnings());
    metrics_.emplace(start_.folder, trainer_->steps_done(), backend_.device, keep_curves_to);
  }
  first_step_ = trainer_->steps_done();
  if (first_step_ >= config_.train.steps) return;  // finished: nothing to measure or report
  if (is_rank0()) write_plan(start_.folder, estimate_, nullptr);
  log_banner({config_, corpus_, model_, backend_, mesh_, trainer_->slots(), estimate_, peak_});
}

void TrainingRun::resume() {
  CheckpointReader reader(*start_.checkpoint);
  with_manifest_errors(*start_.checkpoint, [&] { resume(reader); });
}

void TrainingRun::resume(CheckpointReader& reader) {
  const CheckpointInfo& info = reader.info();
  sections_ = info.sections;
  const Json position = info.data.value("loader", Json::object());
  if (start_.fork) {
    run_id_ = new_run_id(world_group_);
    history_["val_losses"] = Json::array();  // the parent's are of other steps, and maybe of another text
    sections_["parent"] = start_.fork->parent;
    log::info(loader_.restore_nearest(position));
  } else {
    check_same_data(info, corpus_);
    run_id_ = info.run_id;
    history_ = info.history;
    if (Json& losses = history_["val_losses"]; losses.is_null()) losses = Json::array();
    else if (!losses.get_ref<const Json::array_t&>().empty()) last_val_loss_ = losses.back().value("val_loss", 0.0);
    for (const Json& entry : history_["val_losses"])  // looked at again after each save
      checked_count<std::int64_t>(entry.at("step")), entry.at("val_loss");
    loader_.restore(position);
  }
  tokens_before_ = progress_of(info).consumed_tokens - sequences_to_tokens(loader_.cursor());
  const double begin_s = now_s();
  const std::uint64_t bytes = trainer_->load(reader, info.step, info.sections.value("moments_from", std::int64_t{0}),
                                             !start_.fork || start_.fork->load_optimizer_state);
  const double seconds = now_s() - begin_s;
  if (is_rank0()) log::event("load", {{"step", info.step}, {"bytes", bytes}, {"seconds", seconds}});
  if (!start_.fork) checkpoints_.mark_resumed(info.step);
  const auto describe_arithmetic = [](const std::string& device, int count, const std::string& instructions) {
    return device == "cpu" ? join(pluralize(count, "thread"), ", ", instructions) : device;
  };
  const std::string current = describe_arithmetic(backend_.device, backend_.threads, describe_instructions(backend_)),
                    saved = describe_arithmetic(info.build.value("device", "cpu"), info.build.value("threads", 0),
                                                info.build.value("instructions", "?"));
  if (current != saved)
    log::info(join(start_.fork ? "forked with " : "resumed with ", current, " where the checkpoint had ", saved,
                   ": equal to rounding, not to the bit"));
}

void TrainingRun::check_disk() const {
  const std::uint64_t max_checkpoints = static_cast<std::uint64_t>(config_.reporting.checkpoint_keep) + 2,
                      num_checkpoints = list_checkpoints(start_.folder / "checkpoints").size(),
                      free_disk_bytes = free_bytes(start_.folder);
  const double checkpoint_size = static_cast<double>(checkpoint_bytes(model_.spec(), config_.optim)),
               needed_bytes =
                   checkpoint_size *
                   static_cast<double>(max_checkpoints -
                                       std::min(max_checkpoints, num_checkpoints));  // more than 64 bits may hold
  if (static_cast<double>(free_disk_bytes) < needed_bytes)
    throw Error(Fault::kStorage,
                join("the disk of ", start_.folder.string(), " has ", human_bytes(static_cast<double>(free_disk_bytes)),
                     " free, but ", max_checkpoints, " checkpoints (checkpoint.keep + 2",
                     num_checkpoints == 0 ? "" : join(", of which ", num_checkpoints, " are there"), ") need ",
                     human_bytes(needed_bytes), "; free space or lower checkpoint.keep"));
}

RunResult TrainingRun::loop() {
  throughput_.start();
  watch_.start();
  while (trainer_->steps_done() < config_.train.steps) {
    const std::int64_t step = trainer_->steps_done() + 1;
    set_watchdog_note(join("step ", step));
    if (const std::string reason = loader_.exhausted_reason(config_.train.batch, step); !reason.empty()) {
      report_pending(0, /*will_validate=*/false);
      if (step - 1 > checkpoints_.last_step()) save();  // what was learned is kept
      return {.status = "stream_exhausted", .step = step - 1, .reason = reason};
    }
    queue_step();
    const auto due = [step](std::int64_t every) { return every > 0 && step % every == 0; };
    const bool last = step == config_.train.steps;
    const bool will_validate = validation_ && (last || due(config_.reporting.validate_every)),
               will_sample = due(config_.reporting.sample_every) && hooks_.sample,
               will_save = last || due(config_.reporting.checkpoint_every),
               will_trace = config_.train.profile > 0 && step - first_step_ - 1 <= config_.train.profile,
               must_drain = will_validate || will_sample || will_save || will_trace;  // no other step may be in flight
    report_pending(must_drain ? 0 : static_cast<std::size_t>(trainer_->max_pending_steps()), will_validate);
    if (will_sample) {
      exclude_from_steps([&] { log::info(join("sample at step ", step, ": ", hooks_.sample(model_))); });
    }

    const int end = should_stop();
    exclude_from_steps([&] { checkpoints_.poll(); });
    if (end != 0) report_pending(0, /*will_validate=*/false);
    if (will_save || end != 0) exclude_from_steps([&] { save(); });
    if (end != 0 && !last) return {.status = "interrupted", .step = step, .signal = end > 0 ? end : 0};
  }
  return {.status = "ok", .step = trainer_->steps_done()};
}

void TrainingRun::queue_step() {
  PendingStep next{.queued_s = now_s()};
  next.record.epoch = static_cast<std::int64_t>(loader_.cursor()) / loader_.sequences_per_epoch() + 1;
  drain_saves_on_nan([&] { trainer_->step([this] { exclude_from_steps([this] { checkpoints_.snapshot(); }); }); });
  next.record.tokens_seen = tokens_before_ + sequences_to_tokens(loader_.cursor());
  pending_.push_back(std::move(next));
}

/// Calls what belongs to no step: its time is excluded from theirs, unless a step is in flight on the device meanwhile.
template <class Call>
void TrainingRun::exclude_from_steps(const Call& call) {
  const double begin_s = now_s();
  call();
  if (pending_.empty()) throughput_.exclude(now_s() - begin_s);
}

/// Reports pending steps until `left` of them remain. With `will_validate`, the last of them is validated before its
/// report.
void TrainingRun::report_pending(std::size_t max_pending, bool will_validate) {
  while (pending_.size() > max_pending) {
    StepRecord record = std::move(pending_.front().record);
    const double begin_s = std::max(pending_.front().queued_s, last_report_s_);
    pending_.pop_front();
    record.report = drain_saves_on_nan([this] { return trainer_->report(); });
    last_report_s_ = now_s();
    measured_.add(last_report_s_ - begin_s);
    const std::int64_t step = record.report.step;
    if (is_rank0() && step == first_step_ + 1) save_gemm_choices(backend_, start_.folder);
    throughput_.measure(record);
    exclude_from_steps([&] { profile_after(step); });
    if (will_validate && pending_.empty()) validate(record);
    record.eta_s = throughput_.estimate_eta_s(config_.train.steps - step, validations_left(step));
    if (is_rank0()) write(record, step == config_.train.steps);
    watch_.check(record.report, checkpoints_.in_flight(), throughput_.peak_flops());
  }
}

/// Validations that come after `step`.
std::int64_t TrainingRun::validations_left(std::int64_t step) const {
  const std::int64_t every = config_.reporting.validate_every, last = config_.train.steps;
  if (!validation_ || step >= last) return 0;
  return (last - 1) / every - step / every + 1;  // multiples of `every` before the last step, and the last one
}

void TrainingRun::write(const StepRecord& record, bool last) {
  metrics_->write(record);
  if (record.report.step % config_.reporting.log_every != 0 && !last && !record.val_loss) return;
  const bool single = world_group_.size() == 1 && !world_.launcher().is_launched && can_redraw();
  const bool redraw =
      config_.reporting.progress == "on" || (config_.reporting.progress == "auto" && single && !record.val_loss);
  log::progress(human_line(record, redraw ? redrawn_columns() : 0), redraw);
}

/// Traces train.profile steps from the second of this process on: in the first, buffers take their memory.
void TrainingRun::profile_after(std::int64_t step) {
  if (config_.train.profile == 0) return;
  const std::int64_t traced = step - first_step_ - 1;
  if (traced == 0) profile::start();
  if (traced == config_.train.profile) report_profile(config_.train.profile);
}

/// For a run that had fewer steps than it was to trace.
void TrainingRun::end_profile() {
  const std::int64_t traced = trainer_->steps_done() - first_step_ - 1;
  if (config_.train.profile == 0 || traced >= config_.train.profile || first_step_ >= config_.train.steps) return;
  log::warn(join("train.profile = ", config_.train.profile, ", but only ",
                 pluralize(std::max<std::int64_t>(traced, 0), "step"),
                 " came after the first of this run, which is not traced"));
  if (traced > 0) report_profile(static_cast<int>(traced));
}

void TrainingRun::report_profile(int steps) {
  const std::vector<profile::Span> spans = profile::stop();
  const DevicePeaks limit{peak_.flops / world_group_.size(), bandwidth_};
  log::info(join("profile of ", pluralize(steps, "step"), ", also in ", (start_.folder / "profile").string(), ":\n",
                 write_profile(start_.folder, spans, steps, limit, world_group_)));
}

/// When a step is not finite, which all ranks find alike, a save that is still being written is finished first.
template <class Call>
std::invoke_result_t<Call> TrainingRun::drain_saves_on_nan(const Call& call) {
  try {
    return call();
  } catch (const Error& error) {
    if (error.fault() == Fault::kNumeric) checkpoints_.drain();
    throw;
  }
}

/// 0: go on; a signal's number: it was noted somewhere; -1: the time is up. The same on all ranks.
int TrainingRun::should_stop() {
  constexpr double kTimeUpRequest = 1000;  // above every signal's number
  double local_request = hooks_.pending_signal ? hooks_.pending_signal() : 0;
  const double limit_s = config_.train.max_minutes * 60;
  constexpr double kTimeReserve =
      0.05;  // of the limit: "well before" also where the next step and the save take longer than ever
  const double reserve_s = kTimeReserve * limit_s + throughput_.longest_step_s() + throughput_.longest_validation_s() +
                           checkpoints_.longest_save_s();
  if (local_request == 0 && limit_s > 0 && seconds_since_start() + reserve_s > limit_s) local_request = kTimeUpRequest;
  const double global_request = world_group_.all_reduce_max(local_request);
  if (global_request == 0) return 0;
  if (global_request >= kTimeUpRequest) {
    log::info(join("train.max_minutes ", config_.train.max_minutes, " is nearly up: saving"));
    return -1;
  }
  log::info(join("signal ", sigabbrev_np(static_cast<int>(global_request)), ": step ", trainer_->steps_done(),
                 " is finished; saving"));
  return static_cast<int>(global_request);
}

void TrainingRun::validate(StepRecord& record) {
  const double begin_s = now_s();
  record.val_loss = last_val_loss_ = trainer_->validate();
  throughput_.exclude_validation(now_s() - begin_s);
  history_["val_losses"].push_back({{"step", record.report.step}, {"val_loss", *record.val_loss}});
}

CheckpointInfo TrainingRun::info() const {
  CheckpointInfo info{.step = trainer_->steps_done(), .run_id = run_id_};
  info.layout = {mesh_.data->size(), mesh_.tensor->size(), 1};
  info.config = start_.config;
  info.architecture = to_json(model_.spec());
  info.tokenizer = corpus_.tokenizer().to_json();
  info.data = {{"corpus_sha256", corpus_.corpus_sha256()},
               {"cursor", loader_.cursor()},
               {"loader", loader_.state()},
               {"license", corpus_.license()},
               {"unlicensed_documents", corpus_.unlicensed()}};
  info.random = {{"seed", config_.train.seed}};
  info.history = history_;
  info.history["tokens_seen"] = tokens_before_ + sequences_to_tokens(loader_.cursor());
  info.sections = sections_;
  info.sections["asked"] = start_.overrides;
  if (trainer_->moments_start_step() > 0) info.sections["moments_from"] = trainer_->moments_start_step();
  info.build = {{"version", SLIPWAY_VERSION},
                {"time", utc_now()},
                {"threads", backend_.threads},
                {"cpu", cpu_features().model},
                {"instructions", describe_instructions(backend_)},
                {"compute", name(config_.compute_dtype())},
                {"products", backend_.gemm_library},
                {"device", backend_.device},
                {"hardware", hardware_name(backend_)}};
  return info;
}

void TrainingRun::save() { checkpoints_.begin(info(), trainer_->slices()); }

void TrainingRun::finish(RunResult& end) {
  checkpoints_.drain();
  measured_.finish(world_group_, backend_);
  end.warnings = gather_warnings(world_group_);
  end.val_loss = last_val_loss_;
  if (last_val_loss_) end.val_step = history_["val_losses"].back().value("step", std::int64_t{0});
  if (!is_rank0()) return;
  if (measured_.steps() > 0) write_plan(start_.folder, estimate_, &measured_);
  metrics_->flush();
  write_status(end, end.warnings);
}

void TrainingRun::write_status(const RunResult& end, const std::vector<std::string>& warnings) const {
  Json status = {{"schema", "slipway.status"}, {"schema_version", 1},  {"status", end.status}, {"step", end.step},
                 {"run_id", run_id_},          {"signal", end.signal}, {"warnings", warnings}};
  if (last_val_loss_) status["val_loss"] = *last_val_loss_;
  if (sections_.contains("parent")) status["parent"] = sections_["parent"];
  if (!end.reason.empty()) status["error"] = end.reason;
  atomic_write_file(start_.folder / "status.json", to_pretty(status));
}

}  // namespace

void check_same_data(const CheckpointInfo& info, const Corpus& corpus) {
  const std::string saved = info.data.value("corpus_sha256", "");
  if (saved == corpus.corpus_sha256()) return;
  throw Error(Fault::kData,
              join("the data folder's corpus_sha256 is ", corpus.corpus_sha256().substr(0, 12),
                   "..., but this run was trained on ", saved.substr(0, 12), "...; give the same data with --data"));
}

RunProgress progress_of(const CheckpointInfo& info) {
  const auto count = [](const Json& section, const char* key, std::int64_t absent) {
    return section.contains(key) ? checked_count<std::int64_t>(section.at(key)) : absent;
  };
  const std::int64_t sequences = count(info.data, "cursor", 0),
                     length = count(info.data.value("loader", Json::object()), "tokens_per_sequence", 0);
  std::int64_t tokens = 0;
  if (__builtin_mul_overflow(sequences, length, &tokens))
    throw Error(Fault::kStorage, join("the checkpoint says that ", sequences, " sequences of ", length,
                                      " tokens were read, which no run has done"));
  return {.steps = info.step,
          .consumed_tokens = count(info.history, "tokens_seen", tokens),
          .consumed_sequences = sequences};
}

RunResult run_training(World& world, Mesh& mesh, const Backend& backend, const RunConfig& config, const Corpus& corpus,
                       const RunSetup& start, const RunHooks& hooks) {
  // Measurements are made before the model is allocated, so that their memory is free again for the model.
  const std::int64_t start_step = start.checkpoint ? read_manifest(*start.checkpoint).info.step : 0,
                     steps_left = std::max<std::int64_t>(0, config.train.steps - start_step);
  const ModelSpec model = config.model.spec(corpus.tokenizer().vocabulary_size());
  // Connections between GPUs use memory that the model then cannot have, so they are made first; scratch memory that
  // collectives and ops allocated in the meantime is freed.
  const auto trim_memory = [&] {
    for (Group* group : {mesh.data.get(), mesh.tensor.get()}) group->for_backend(backend).free_scratch();
    backend.memory->trim_and_reset_peak();
  };
  trim_memory();  // after a rehearsal
  check_device_memory(config, model, mesh.data->size(), backend);
  const double configured_flops = config.parallel.peak_gflops * 1e9;
  GemmPeak peak{.flops = configured_flops};
  if (steps_left > 0 && configured_flops == 0) peak = gemm_peak(backend, config.compute_dtype());
  world.group().all_reduce_sum(std::span<double>(&peak.flops, 1));
  const double bandwidth = steps_left > 0 && config.train.profile > 0 ? memory_bandwidth(backend) : 0;
  trim_memory();  // after the probes
  const RunEstimate estimate =
      measure_and_estimate(config, model, backend, mesh, world.group(), world.local_size(), &corpus, steps_left);
  if (config.parallel.offload && backend.memory->is_host()) log::warn("runtime.offload has no effect on the CPU");
  load_or_tune_gemms(config, model, mesh.data->size(), backend, world.group(), start.folder);
  trim_memory();  // after a calibration, and timed products
  backend.memory->reserve(estimate.peak_device_bytes);
  return TrainingRun(world, mesh, backend, config, corpus, start, hooks, estimate, peak, bandwidth).run();
}

}  // namespace slipway
