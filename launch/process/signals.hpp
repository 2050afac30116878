// Signals that ask for a save: blocked in every thread, taken by one that waits for them.
#pragma once

#include <functional>
#include <string>

#include "comm/launcher_info.hpp"

namespace slipway {

/// From now on INT, TERM, HUP, USR1 and USR2 are requests to save, and a closed pipe does not end the process. A second
/// INT ends it at once. The first thing that `train` does, before there is any other thread; a signal that comes
/// earlier ends the process.
///
/// No handler is installed, since none may run while a matmul does: oneDNN before 3.11.2 points the stack pointer into
/// the heap inside its f32 kernels (its issue 4845), so that the kernel of the system writes a handler's frame over
/// whatever lies there. The signals are blocked here, every later thread inherits that, and one thread waits for them
/// in sigwaitinfo. With such a oneDNN the signals of timers and profilers (ALRM, VTALRM, PROF, IO and the real-time
/// ones) are blocked too.
void install_signals();

/// The first signal that asked for a save, 0 for none. Ranks agree before they act on it, at the end of a step:
/// `int signal = static_cast<int>(group.all_reduce_max(pending_signal()))`. A rank that failed takes part in no further
/// agreement, so the TERM that its launcher then sends to the others never becomes a save.
int pending_signal();

/// The launcher itself has sent TERM: KILL follows, after 2 s under mpirun.
bool launcher_is_ending();

/// From now on TERM ends the process, as it does where install_signals() was not called.
void let_term_end_process();

/// `call` runs in the thread that waits for signals, before the process ends without a save: by a second INT, or (then
/// `by_signal` is 0) as the launcher ends the ranks. Empty: nothing.
void on_unsaved_end(std::function<void(int by_signal)> call);

/// The exit status after a save on `signal`: 138 for USR1.
inline int exit_status_of_signal(int signal) { return 128 + signal; }

/// How to stop this run so that it saves: the run's first log line says it.
std::string how_to_stop(const LauncherInfo& launcher);

}  // namespace slipway
