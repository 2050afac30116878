// Which collective call each thread is in, so that one that never ends is named and ends the run.
#pragma once

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

}  // namespace slipway
