// Records in a run's folder that its process died of a fatal signal.
#pragma once

#include <filesystem>

namespace slipway {

/// Installs handlers of SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT that print one sentence on standard error; the
/// process still dies of that signal (128+n, a core file where the system keeps one). Call it first in `main`, so that
/// Open MPI finds the handlers and does not replace them. A sanitizer's handlers stay.
void install_crash_handlers();

/// While this object exists, the handlers also write status `failed`, with the signal and the rank, to
/// `RUN/status.json`, and the sentence names the run. When the launcher ends this rank (for example because another one
/// was killed) and the status is still `running`, that is recorded too.
///
/// The texts are prepared by the constructor: the handlers make system calls only, since the heap may be corrupted. One
/// object at a time.
class CrashRecord {
 public:
  CrashRecord(const std::filesystem::path& run_folder, int rank);
  ~CrashRecord();
  CrashRecord(const CrashRecord&) = delete;
  CrashRecord& operator=(const CrashRecord&) = delete;
};

}  // namespace slipway
