// The rank and size that mpirun or srun gave this process, known before MPI starts.
#pragma once

#include <string>

namespace slipway {

/// The launcher's environment variables.
struct LauncherInfo {
  bool is_launched = false;  ///< started by mpirun or srun
  std::string name;          ///< "mpirun" or "srun"
  int rank = 0;              ///< OMPI_COMM_WORLD_RANK, PMIX_RANK or SLURM_PROCID
  int size = 1;
  int local_rank = 0;  ///< among the ranks of this host
  int local_size = 1;
  std::string stale_variable;  ///< a variable of a launcher that has ended: this process is a single rank; else empty
};
LauncherInfo launcher_info();

}  // namespace slipway
