#include "comm/world.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

#include "comm/mpi_group.hpp"
#include "comm/watchdog.hpp"
#include "src/core/cpus.hpp"
#include "src/core/error.hpp"
#include "src/core/log.hpp"

namespace slipway {
namespace {

const pid_t parent_at_start = getppid();  // before anything could have happened to it

/// Orphaned ranks would train on beside the run that replaces them.
void die_with_parent() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent_at_start) std::_Exit(static_cast<int>(Fault::kComm));
}

/// A rank's host and the CPUs it may use: what ranks tell each other to find who shares a machine.
struct HostInfo {
  std::array<char, 256> host{};
  CpuMask cpus{};
  int pid = 0;
  std::uint64_t pid_namespace = 0;  ///< the namespace that it is a number in

  static HostInfo local() {
    HostInfo info;
    gethostname(info.host.data(), info.host.size() - 1);
    info.cpus = cpu_mask();
    info.pid = static_cast<int>(getpid());
    struct stat ns_stat {};
    if (::stat("/proc/self/ns/pid", &ns_stat) == 0) info.pid_namespace = ns_stat.st_ino;
    return info;
  }
};

}  // namespace

struct World::State {
  std::unique_ptr<Group> group;
  int local_cpus = 0;
  int unwinding = std::uncaught_exceptions();
};

World::World() : state_(std::make_unique<State>()), launcher_(launcher_info()) {
  if (!launcher_.is_launched) {
    state_->group = make_self_group();
  } else {
    die_with_parent();
    mpi::init();
    state_->group = mpi::world_group();
    if (launcher_.size > 1 && launcher_.size != group().size())
      throw Error(
          Fault::kComm,
          join(launcher_.name, " started ", launcher_.size, " ranks but MPI sees ", group().size(),
               ": they would run side by side without each other; start them with mpirun, or with srun --mpi=pmix"));
    launcher_.rank = group().rank();
    launcher_.size = group().size();
    start_watchdog(kWatchdogTimeout_s);
  }
  log::set_rank(group().rank());

  const HostInfo local = HostInfo::local();
  std::vector<HostInfo> infos(static_cast<std::size_t>(group().size()));
  group().all_gather(&local, sizeof local, infos.data());
  HostInfo combined;
  std::vector<Peer> peers;
  launcher_.local_size = 0;
  for (int r = 0; r < group().size(); ++r) {
    const HostInfo& info = infos[static_cast<std::size_t>(r)];
    const bool is_same_host = info.host == local.host;
    if (r != group().rank())
      peers.push_back({r, is_same_host && info.pid_namespace == local.pid_namespace ? info.pid : 0});
    if (!is_same_host) continue;
    if (r == group().rank()) launcher_.local_rank = launcher_.local_size;
    ++launcher_.local_size;
    for (std::size_t i = 0; i < info.cpus.size(); ++i) combined.cpus[i] |= info.cpus[i];
  }
  state_->local_cpus = clamp_to_quota(count(combined.cpus));
  set_watchdog_peers(std::move(peers));
}

World::~World() {
  const bool unwinding = std::uncaught_exceptions() > state_->unwinding;
  state_->group.reset();
  if (mpi::is_initialized() && !unwinding) mpi::finalize();
}

Group& World::group() { return *state_->group; }

std::unique_ptr<Group> World::split(int color, int key, Reduction reduction) {
  return mpi::is_initialized() ? mpi::split(color, key, reduction) : make_self_group(reduction);
}

int World::local_cpus() { return state_->local_cpus; }

void abort_all(int status) {
  if (mpi::is_initialized()) mpi::abort(status);
  std::_Exit(status);
}

bool claim_error_report() {
  const char* session_dir =
      std::getenv("PMIX_SERVER_TMPDIR");  // the launcher's folder for this job on this host; it removes it
  const char* job = std::getenv("PMIX_NAMESPACE");
  if (session_dir == nullptr || job == nullptr) return true;
  const std::string claim_path = join(session_dir, "/slipway-error.", job);
  const int descriptor = ::open(claim_path.c_str(), O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (descriptor < 0) return errno != EEXIST;
  ::close(descriptor);
  return true;
}

std::string mpi_version() { return mpi::version(); }
bool mpi_running() { return mpi::is_initialized(); }

}  // namespace slipway
