// What mpirun or srun told this process, known before MPI starts.
#pragma once

#include <string>

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

}  // namespace slipway
