// Tracks the collective call of each thread, so that one that hangs is reported and the run is aborted.
#pragma once

#include <string>
#include <vector>

#include "src/core/profile.hpp"

namespace slipway {

/// The scope of a call that waits for peers. Calls nest: the name of the outermost is reported, and every inner one
/// that begins or ends counts as progress.
class CollectiveScope {
 public:
  /// `rank` and `peer` are world ranks; `peer` is the one waited for, -1 for all.
  CollectiveScope(const char* name, int rank, int peer = -1);
  ~CollectiveScope();
  CollectiveScope(const CollectiveScope&) = delete;
  CollectiveScope& operator=(const CollectiveScope&) = delete;

 private:
  CollectiveScope* outermost_;  // the outermost call of this thread; `this` for the outermost
  friend struct Watchdog;
  const char* name_;
  int rank_;
  int peer_;
  double since_s_;
  profile::Scope scope_;
};

/// A rank and its process on this host.
struct Peer {
  int rank = 0;
  int pid = 0;  ///< process id; 0: on another host, or in another container
};
/// Sets all other ranks. The report of a timeout names those whose processes are stopped or gone.
void set_watchdog_peers(std::vector<Peer> peers);

/// Starts a thread that aborts all ranks (status 5) when a collective makes no progress for `timeout_s` seconds, with a
/// report of the rank, the call and the wait. Computing between calls is not timed, but peers that wait for this rank
/// are: the limit must exceed the longest work that one rank does alone. `timeout_s` 0 switches the watchdog off. A
/// World under a launcher starts it with kWatchdogTimeout_s.
void start_watchdog(double timeout_s);
constexpr double kWatchdogTimeout_s = 300;  // more than one rank needs to load tens of GiB while its peers wait
/// The current activity of this rank for the report: "step 120".
void set_watchdog_note(const std::string& note);
/// Disables the watchdog while the launcher ends the ranks.
void disable_watchdog() noexcept;

}  // namespace slipway
