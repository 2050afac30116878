// Signals that request a save: blocked in every thread, and received by one thread that waits for them.
#pragma once

#include <functional>
#include <string>

#include "comm/launcher_info.hpp"

namespace slipway {

/// Makes INT, TERM, HUP, USR1 and USR2 requests to save; a closed pipe no longer ends the process. A second INT ends it
/// at once. `train` calls this first, before it creates threads; a signal that arrives earlier ends the process.
///
/// No handler is installed, since no handler may run during a matmul: the f32 kernels of oneDNN before 3.11.2 point the
/// stack pointer into the heap (its issue 4845), where the operating system would write the handler's frame. The
/// signals are blocked here, every later thread inherits the mask, and one thread waits for them in sigwaitinfo. With
/// such a oneDNN the signals of timers and profilers (ALRM, VTALRM, PROF, IO and the real-time ones) are blocked too.
void start_signal_thread();

/// The first signal that requested a save, 0 for none. Ranks agree before they act on it, at the end of a step:
/// `int signal = static_cast<int>(group.all_reduce_max(pending_signal()))`. After one rank has failed, the ranks cannot
/// agree any more, so the TERM that the launcher then sends to the others never causes a save.
int pending_signal();

/// Whether the launcher itself has sent TERM: KILL follows, after 2 s under mpirun.
bool launcher_is_ending();

/// Restores the default action of TERM, which ends the process.
void restore_default_sigterm();

/// Sets a callback that the thread that waits for signals calls before the process ends without a save: by a second
/// INT, or, with `by_signal` 0, because the launcher ends the ranks. An empty function removes it.
void set_exit_callback(std::function<void(int by_signal)> callback);

/// The exit status after a save on `signal`: 138 for USR1.
inline int exit_status_of_signal(int signal) { return 128 + signal; }

/// How to stop this run so that it saves, for the run's first log line.
std::string stop_hint(const LauncherInfo& launcher);

}  // namespace slipway
