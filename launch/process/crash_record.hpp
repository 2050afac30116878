// What a run's folder says after its process has died of a signal that it could not prevent.
#pragma once

#include <filesystem>

namespace slipway {

/// From now on a process that dies of SIGSEGV, SIGBUS, SIGFPE, SIGILL or SIGABRT says so in one sentence on standard
/// error; it still dies of that signal (128+n, a core file where the system keeps one). The first thing in `main`, so
/// that Open MPI finds the handlers in place and leaves them. A sanitizer's handlers stay.
void install_crash_handlers();

/// While this lives, `RUN/status.json` says `failed` with the signal and the rank after such a death, and the sentence
/// names the run. When the launcher ends this rank (because another one died by KILL, say) and the file still says
/// `running`, it then says so too.
///
/// The texts are prepared here: the handler makes system calls only, since the heap may be what is broken. One object
/// at a time.
class CrashRecord {
 public:
  CrashRecord(const std::filesystem::path& run, int rank);
  ~CrashRecord();
  CrashRecord(const CrashRecord&) = delete;
  CrashRecord& operator=(const CrashRecord&) = delete;
};

}  // namespace slipway
