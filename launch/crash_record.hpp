// What a run's folder says after its process has died of a signal that it could not prevent.
#pragma once

#include <filesystem>

namespace slipway {

/// While this lives, `RUN/status.json` says `failed` with the signal and the rank after the process has died of
/// SIGSEGV, SIGBUS, SIGFPE, SIGILL or SIGABRT, and standard error has one sentence; the process still dies of that
/// signal (128+n, a core file where the system keeps one). A file that no longer says `running` is left alone when the
/// launcher ends this rank (because another one died by KILL, say): otherwise it then says so too.
///
/// The texts are prepared here: the handler makes system calls only, since the heap may be what is broken. Signals that
/// already have a handler (a sanitizer's) keep it. One object at a time.
class CrashRecord {
 public:
  CrashRecord(const std::filesystem::path& run, int rank);
  ~CrashRecord();
  CrashRecord(const CrashRecord&) = delete;
  CrashRecord& operator=(const CrashRecord&) = delete;
};

}  // namespace slipway
