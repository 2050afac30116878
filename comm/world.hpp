// The process among its peers: MPI from start to end, and how a fault ends all ranks.
#pragma once

#include <memory>
#include <string>

#include "comm/group.hpp"
#include "comm/launcher_info.hpp"

namespace slipway {

/// All ranks of this run. Made once, at the start of a command that can run under a launcher.
///
/// With a launcher: makes ranks die with their parent, sets OMPI_MCA_mpi_yield_when_idle=1 unless set, then starts MPI
/// (main thread only: MPI_THREAD_FUNNELED). Without one: a group of one, and MPI is never started.
/// HDF5's H5open() must have run before (io/checkpoint/checkpoint.hpp: init_hdf5).
///
/// When an error unwinds through it, MPI is left running, since ending it would wait for peers that may never come:
/// whoever catches the error ends all ranks (launch/process/launcher.hpp).
class World {
 public:
  World();
  ~World();  ///< ends MPI; every background writer must be done by then
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Group& group();
  /// The ranks with equal `color`, ordered by `key`. Collective.
  std::unique_ptr<Group> split(int color, int key, Reduction reduction);
  const LauncherInfo& launcher() const { return launcher_; }
  /// Logical CPUs in the union of the affinity masks of the ranks on this host, or of their quota if that is less.
  int local_cpus();
  int local_size() const { return launcher_.local_size; }

 private:
  struct State;
  std::unique_ptr<State> state_;
  LauncherInfo launcher_;
};

/// Ends every rank with this status at once, whether or not a World is in reach: MPI_Abort while MPI runs, exit
/// otherwise.
[[noreturn]] void abort_all(int status);
/// Claims the right to print the error that is about to end all ranks: true for the first rank of this host that calls
/// it, and where the launcher has no session folder; the other ranks wait to be terminated. Needs no MPI.
bool claim_error_report();
std::string mpi_version();  ///< "Open MPI v4.1.4"; may be asked without MPI
bool mpi_running();         ///< between the start and the end of MPI in this process

}  // namespace slipway
