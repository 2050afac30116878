#include "comm/launcher_info.hpp"

#include <unistd.h>

#include <cstdlib>
#include <optional>

#include "src/core/error.hpp"

namespace slipway {
namespace {

std::optional<int> env_int(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr || *text == '\0') return std::nullopt;
  return std::atoi(text);
}

// Environment variables may outlive the job that set them: exported by hand, or inherited by a shell (tmux, screen)
// that was started in the job. A process that trusted them would wait for peers that do not exist.

/// Whether the PMIx server, which mpirun or srun --mpi=pmix runs beside its ranks, is alive; it removes its folder when
/// the job ends.
bool pmix_server_is_alive() {
  if (std::getenv("PMIX_NAMESPACE") == nullptr) return false;
  const char* folder = std::getenv("PMIX_SERVER_TMPDIR");
  return folder == nullptr || ::access(folder, F_OK) == 0;
}

/// Whether the task that srun started, which is this process or an ancestor of it, is alive.
bool slurm_task_is_alive() {
  const auto task = env_int("SLURM_TASK_PID");
  return !task || ::access(join("/proc/", *task).c_str(), F_OK) == 0;
}

}  // namespace

LauncherInfo launcher_info() {
  const auto ompi_rank = env_int("OMPI_COMM_WORLD_RANK"), pmix_rank = env_int("PMIX_RANK"),
             slurm_rank = env_int("SLURM_PROCID");
  // A batch script has SLURM_PROCID too; only tasks of a step that srun started have SLURM_STEP_NUM_TASKS beside it.
  const bool slurm_step = slurm_rank.has_value() && env_int("SLURM_STEP_NUM_TASKS").has_value();
  const bool has_server = pmix_server_is_alive();
  LauncherInfo info;
  if (ompi_rank && has_server) {
    info = {.is_launched = true, .name = "mpirun", .rank = *ompi_rank};
    info.size = env_int("OMPI_COMM_WORLD_SIZE").value_or(1);
    info.local_rank = env_int("OMPI_COMM_WORLD_LOCAL_RANK").value_or(0);
    info.local_size = env_int("OMPI_COMM_WORLD_LOCAL_SIZE").value_or(1);
  } else if ((pmix_rank && has_server) || (slurm_step && slurm_task_is_alive())) {
    info = {.is_launched = true, .name = "srun", .rank = pmix_rank && has_server ? *pmix_rank : *slurm_rank};
    info.size = env_int("SLURM_STEP_NUM_TASKS").value_or(1);
    info.local_rank = env_int("SLURM_LOCALID").value_or(0);
  } else {
    info.stale_variable = ompi_rank    ? "OMPI_COMM_WORLD_RANK"
                          : pmix_rank  ? "PMIX_RANK"
                          : slurm_step ? "SLURM_PROCID"
                                       : "";
  }
  return info;
}

}  // namespace slipway
