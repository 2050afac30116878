// The process among its peers: MPI from start to end, the mesh of ranks, and how a fault ends all of them.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "comm/group.hpp"

namespace slipway {

/// What the launcher says about this process, read from the environment before MPI starts.
struct LauncherInfo {
  bool present = false;  ///< started by mpirun or srun
  std::string name;      ///< "mpirun" or "srun"
  int rank = 0;          ///< OMPI_COMM_WORLD_RANK, PMIX_RANK or SLURM_PROCID
  int size = 1;
  int local_rank = 0;  ///< among the ranks of this host
  int local_size = 1;
  std::string stale;  ///< a variable of a launcher that is gone, so that this process is on its own; else empty
};
LauncherInfo launcher_info();

/// All ranks of this run. Made once, at the start of a command that can run under a launcher.
///
/// With a launcher: makes ranks die with their parent, sets OMPI_MCA_mpi_yield_when_idle=1 unless set, then starts MPI
/// (main thread only: MPI_THREAD_FUNNELED). Without one: a group of one, and MPI is never started.
/// HDF5's H5open() must have run before (io/checkpoint.hpp: open_hdf5).
///
/// When an error unwinds through it, MPI is left running, since ending it would wait for peers that may never come:
/// whoever catches the error ends all ranks (launch/launcher.hpp).
class World {
 public:
  World();
  ~World();  ///< ends MPI; every background writer must be done by then
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Group& group();
  /// The ranks with equal `color`, ordered by `key`. Collective.
  std::unique_ptr<Group> split(int color, int key);
  const LauncherInfo& launcher() const { return launcher_; }
  /// Logical CPUs in the union of the affinity masks of the ranks on this host, or of their quota if that is less.
  int host_cpus();
  int host_ranks() const { return launcher_.local_size; }

 private:
  struct State;
  std::unique_ptr<State> state_;
  LauncherInfo launcher_;
};

/// data x tensor: rank = data_rank * tensor_size + tensor_rank, so that tensor groups stay inside a node.
struct Mesh {
  std::unique_ptr<Group> data;    ///< ranks that hold the same shard of the weights
  std::unique_ptr<Group> tensor;  ///< ranks that together hold one copy of the weights
};
/// Errors: Fault::kConfig when the sizes do not multiply to the world's, or the data size is no power of two, with the
/// remedy.
Mesh make_mesh(World& world, int tensor_size);
/// What make_mesh asks of the sizes, before anything is started. Errors: as make_mesh.
void check_mesh(int ranks, int tensor_size);
/// The mesh of a thread group member, for tests: same arrangement, groups built over threads.
Mesh make_thread_mesh(Group& all, int tensor_size);

/// Ends every rank with this status at once, whether or not a World is in reach: MPI_Abort while MPI runs, exit
/// otherwise.
[[noreturn]] void abort_all(int status);
/// Claims the right to print the error that is about to end all ranks: true for the first rank of this host that calls
/// it, and where the launcher has no session folder; the other ranks wait to be terminated. Needs no MPI.
bool claim_error_report();
std::string mpi_version();  ///< "Open MPI v4.1.4"; may be asked without MPI
bool mpi_running();         ///< between the start and the end of MPI in this process

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
