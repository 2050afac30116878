#include "src/train/checkpoint_saver.hpp"

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

namespace slipway {
namespace {

using Phase = CheckpointWriter::Phase;

/// The outcome of one rank's part of a save: success, or the fault and error message.
struct Outcome {
  int status = 0;  ///< a Fault's number; 0 for success
  std::string message;
};

template <class Call>
Outcome run_catching(Call&& call) {
  try {
    call();
    return {};
  } catch (const Error& error) {
    return {error.exit_status(), error.what()};
  } catch (const std::exception& error) {
    return {static_cast<int>(Fault::kBug), error.what()};
  }
}

std::vector<int> gather(Group& group, int local) {
  std::vector<int> statuses(static_cast<std::size_t>(group.size()));
  group.all_gather(&local, sizeof local, statuses.data());
  return statuses;
}

}  // namespace

CheckpointSaver::CheckpointSaver(const std::filesystem::path& checkpoints, Group& group)
    : group_(group), writer_(checkpoints, group.rank(), group.size()) {}

/// Throws on all ranks when `status` of any rank is not 0: abandons the save, then throws the lowest failing rank's
/// error.
void CheckpointSaver::throw_if_any_failed(int status, const std::string& message) {
  const std::vector<int> statuses = gather(group_, status);
  const auto first = std::ranges::find_if(statuses, [](int each) { return each != 0; });
  if (first == statuses.end()) return;
  const std::vector<std::string> messages = group_.all_gather_text(message);
  if (group_.rank() != 0) writer_.abandon();  // rank 0 removes the folder after all other ranks have stopped writing
  group_.barrier();
  if (group_.rank() == 0) writer_.abandon();
  group_.barrier();
  active_ = false;
  throw Error(static_cast<Fault>(*first), messages[static_cast<std::size_t>(first - statuses.begin())]);
}

void CheckpointSaver::begin(const CheckpointInfo& info, std::span<const SliceView> slices) {
  require(!active_, "CheckpointSaver::begin while a save is in flight");
  const Outcome outcome = run_catching([&] { writer_.begin(info, slices); });
  throw_if_any_failed(outcome.status, outcome.message);
  step_ = info.step;
  active_ = true;
}

std::optional<std::int64_t> CheckpointSaver::poll() {
  if (!active_) return std::nullopt;
  const std::vector<int> phases = gather(group_, static_cast<int>(writer_.phase()));
  const auto is_phase = [](Phase phase) { return [phase](int each) { return each == static_cast<int>(phase); }; };
  if (std::ranges::any_of(phases, is_phase(Phase::kFailed))) {
    const Outcome outcome = run_catching([&] {
      if (writer_.phase() == Phase::kFailed) writer_.wait();
    });
    throw_if_any_failed(outcome.status, outcome.message);
  }
  if (is_phase(Phase::kPublished)(phases[0])) {
    writer_.finish();
    active_ = false;
    return step_;
  }
  if (std::ranges::all_of(phases, is_phase(Phase::kWritten)) && group_.rank() == 0) writer_.publish();
  return std::nullopt;
}

std::optional<std::int64_t> CheckpointSaver::drain() {
  while (active_) {
    if (const auto step = poll()) return step;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // collectives stay short, so the watchdog sees progress
  }
  return std::nullopt;
}

}  // namespace slipway
