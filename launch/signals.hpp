// Signals that ask for a save: a handler that only takes a note, and the note.
#pragma once

#include <string>

#include "comm/world.hpp"

namespace slipway {

/// From now on INT, TERM, HUP, USR1 and USR2 are noted, and a closed pipe is no reason to end. A second INT ends the
/// process at once. The first thing that `train` does: a signal that comes before this ends the process.
void install_signals();

/// The first signal noted, 0 for none. Ranks agree before they act on it, at the end of a step:
/// `int signal = static_cast<int>(group.all_reduce_max(pending_signal()))`. A rank that failed takes part in no further
/// agreement, so the TERM that its launcher then sends to the others never becomes a save.
int pending_signal();

/// The launcher itself has sent TERM: KILL follows, after 2 s under mpirun.
bool launcher_is_ending();

/// The exit status after a save on `signal`: 138 for USR1.
inline int exit_status_of_signal(int signal) { return 128 + signal; }

/// How to stop this run so that it saves: the run's first log line says it.
std::string how_to_stop(const LauncherInfo& launcher);

}  // namespace slipway
