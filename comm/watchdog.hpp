// Which collective call each thread is in, so that one that never ends is named and ends the run.
#pragma once

#include <string>
#include <vector>

#include "src/core/profile.hpp"

namespace slipway {

/// A call that waits for peers, from its construction to its end. Calls nest: the outermost gives the name that is
/// reported, and every inner one that begins or ends counts as progress.
class CollectiveScope {
 public:
  /// `rank` and `peer` are ranks of the whole run; `peer` is the one waited for, -1 for all.
  CollectiveScope(const char* name, int rank, int peer = -1);
  ~CollectiveScope();
  CollectiveScope(const CollectiveScope&) = delete;
  CollectiveScope& operator=(const CollectiveScope&) = delete;

 private:
  CollectiveScope* outer_;  // the outermost call of this thread; itself when it is the one
  friend struct Watchdog;
  const char* name_;
  int rank_;
  int peer_;
  double since_s_;
  profile::Scope scope_;
};

/// A rank of the run as this host's system sees it.
struct Peer {
  int rank = 0;
  int process = 0;  ///< 0: on another host, or in a container of its own
};
/// All other ranks: when none of them is heard of, those that the system knows to be stopped or gone are named.
void set_watchdog_peers(std::vector<Peer> peers);

/// A thread of its own that ends all ranks (status 5) when a collective does not progress for `limit_s` seconds: it
/// names the rank, the call and the wait. Between calls (a rank computing) the clock does not run, but a peer that
/// waits for this rank has its own clock: the limit must exceed the longest work that one rank does alone.
/// `limit_s` 0 switches it off. A World under a launcher starts it with kWatchdogLimitS.
void set_watchdog(double limit_s);
constexpr double kWatchdogLimitS = 300;  // loading tens of GiB on one rank while its peers wait takes less
/// What this rank is about, for the watchdog's sentence: "step 120".
void set_watchdog_note(const std::string& note);
/// The launcher is ending the ranks: the watchdog keeps quiet.
void disable_watchdog() noexcept;

}  // namespace slipway
