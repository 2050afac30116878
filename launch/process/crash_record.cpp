#include "launch/process/crash_record.hpp"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_folder.hpp"
#include "launch/process/signals.hpp"
#include "src/core/error.hpp"
#include "src/core/file.hpp"
#include "src/core/json.hpp"

namespace slipway {
namespace {

constexpr std::array kFatalSignals = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

/// Everything that the handler writes, prepared in advance.
struct Record {
  struct CrashReport {
    std::string status;   ///< the whole of status.json
    std::string message;  ///< for standard error
  };
  std::string file, temporary;
  std::array<CrashReport, kFatalSignals.size()> reports;
};

std::atomic<const Record*> current = nullptr;
std::atomic<pid_t> dying_thread = 0;

void write_all(int descriptor, const std::string& text) {
  for (std::size_t offset = 0; offset < text.size();) {
    const ssize_t num_written = ::write(descriptor, text.data() + offset, text.size() - offset);
    if (num_written <= 0) return;
    offset += static_cast<std::size_t>(num_written);
  }
}

/// Async-signal-safe: makes system calls only.
void write_report(const Record& record, const Record::CrashReport& report) {
  write_all(STDERR_FILENO, report.message);
  const int descriptor = ::open(record.temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor < 0) return;
  write_all(descriptor, report.status);
  ::fsync(descriptor);
  ::close(descriptor);
  ::rename(record.temporary.c_str(), record.file.c_str());
}

/// The messages while there is no CrashRecord.
std::array<std::string, kFatalSignals.size()>& default_messages() {
  static std::array<std::string, kFatalSignals.size()> messages;
  return messages;
}

std::string prefix() { return join("slipway: error (", name(Fault::kBug), "): "); }
constexpr char kReportHint[] = "; please report it with the command line and what slipway doctor prints";

void handle_fatal_signal(int signal) {
  const pid_t tid = ::gettid();
  pid_t expected_tid = 0;
  if (!dying_thread.compare_exchange_strong(expected_tid, tid)) {
    if (expected_tid == tid) std::_Exit(exit_status_of_signal(signal));  // the handler itself crashed
    for (;;) ::pause();                                                  // the other thread ends the process
  }
  const Record* record = current;
  for (std::size_t i = 0; i < kFatalSignals.size(); ++i) {
    if (kFatalSignals[i] != signal) continue;
    if (record != nullptr) write_report(*record, record->reports[i]);
    else write_all(STDERR_FILENO, default_messages()[i]);
  }
  ::signal(signal, SIG_DFL);
  ::raise(signal);  // not blocked (SA_NODEFER)
}

Json make_status(const char* status_word, std::string_view fault, const std::string& error, int rank, int signal) {
  Json status = {
      {"schema", "slipway.status"}, {"schema_version", 1}, {"status", status_word}, {"rank", rank}, {"error", error}};
  if (!fault.empty()) status["fault"] = fault;
  if (signal > 0) status["signal"] = signal;
  return status;
}

Record::CrashReport make_report(int signal, const std::filesystem::path& run_folder, int rank) {
  const std::string error =
      join("rank ", rank, " died of SIG", sigabbrev_np(signal), " (", sigdescr_np(signal),
           "): what was saved before is good, continue with slipway train --resume ", run_folder.string(), kReportHint);
  return {to_pretty(make_status("failed", name(Fault::kBug), error, rank, signal)), join(prefix(), error, "\n")};
}

/// Records that this rank ends without a save, unless a peer has already recorded its error.
void run_exit_callback(const std::filesystem::path& file, int rank, int by_signal) {
  try {
    if (!std::filesystem::exists(file) || read_json(file, Fault::kStorage).value("status", "") != "running") return;
    const std::filesystem::path run_folder = file.parent_path();
    const std::string error = join(
        by_signal > 0 ? join("stopped at once by a second ", sigabbrev_np(by_signal), ", without a save")
                      : join("rank ", rank, " was ended by its launcher: another rank was lost (the launcher says ",
                             "which), or the launcher was told to stop"),
        "; continue with slipway train --resume ", run_folder.string());
    Json status = by_signal > 0 ? make_status("interrupted", "", error, rank, by_signal)
                                : make_status("failed", name(Fault::kComm), error, rank, 0);
    const auto checkpoint_list = list_checkpoints(run_folder / "checkpoints");
    if (!checkpoint_list.empty()) status["step"] = checkpoint_list.back().step;  // where a resume goes on
    atomic_write_file(file, to_pretty(status));
  } catch (const std::exception&) {
    // This rank is about to be killed; the error cannot be reported.
  }
}

/// An alternate signal stack for the handler, which cannot run on a stack that has overflowed. Of this thread only.
void use_alternate_stack() {
  static std::vector<char> stack(64 * 1024);
  stack_t alternate{};
  if (sigaltstack(nullptr, &alternate) == 0 && (alternate.ss_flags & SS_DISABLE) == 0) return;  // a sanitizer's
  alternate = {};
  alternate.ss_sp = stack.data();
  alternate.ss_size = stack.size();
  sigaltstack(&alternate, nullptr);
}

}  // namespace

void install_crash_handlers() {
  use_alternate_stack();
  for (std::size_t i = 0; i < kFatalSignals.size(); ++i) {
    const int signal = kFatalSignals[i];
    default_messages()[i] =
        join(prefix(), "died of SIG", sigabbrev_np(signal), " (", sigdescr_np(signal), ")", kReportHint, "\n");
    struct sigaction old_action {};
    if (sigaction(signal, nullptr, &old_action) != 0 || old_action.sa_handler != SIG_DFL) continue;
    struct sigaction action {};
    action.sa_handler = handle_fatal_signal;
    action.sa_flags = SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    sigaction(signal, &action, nullptr);
  }
}

CrashRecord::CrashRecord(const std::filesystem::path& run_folder, int rank) {
  const std::filesystem::path file = std::filesystem::absolute(run_folder) / "status.json";
  static Record record;  // outlives this object, since a handler in another thread may still read it
  record = {.file = file.string(), .temporary = join(file.string(), ".rank-", rank), .reports = {}};
  for (std::size_t i = 0; i < kFatalSignals.size(); ++i)
    record.reports[i] = make_report(kFatalSignals[i], run_folder, rank);
  current = &record;
  set_exit_callback([file, rank](int by_signal) { run_exit_callback(file, rank, by_signal); });
}

CrashRecord::~CrashRecord() {
  set_exit_callback({});
  current = nullptr;
}

}  // namespace slipway
