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
  int process = 0;
  std::uint64_t processes = 0;  ///< the namespace that it is a number in

  static HostInfo mine() {
    HostInfo seat;
    gethostname(seat.host.data(), seat.host.size() - 1);
    seat.cpus = cpu_mask();
    seat.process = static_cast<int>(getpid());
    struct stat space {};
    if (::stat("/proc/self/ns/pid", &space) == 0) seat.processes = space.st_ino;
    return seat;
  }
};

}  // namespace

struct World::State {
  std::unique_ptr<Group> group;
  int local_cpus = 0;
  int unwinding = std::uncaught_exceptions();
};

World::World() : state_(std::make_unique<State>()), launcher_(launcher_info()) {
  if (!launcher_.present) {
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
    set_watchdog(kWatchdogLimitS);
  }
  log::set_rank(group().rank());

  const HostInfo mine = HostInfo::mine();
  std::vector<HostInfo> seats(static_cast<std::size_t>(group().size()));
  group().all_gather(&mine, sizeof mine, seats.data());
  HostInfo together;
  std::vector<Peer> peers;
  launcher_.local_size = 0;
  for (int r = 0; r < group().size(); ++r) {
    const HostInfo& seat = seats[static_cast<std::size_t>(r)];
    const bool here = seat.host == mine.host;
    if (r != group().rank()) peers.push_back({r, here && seat.processes == mine.processes ? seat.process : 0});
    if (!here) continue;
    if (r == group().rank()) launcher_.local_rank = launcher_.local_size;
    ++launcher_.local_size;
    for (std::size_t i = 0; i < seat.cpus.size(); ++i) together.cpus[i] |= seat.cpus[i];
  }
  state_->local_cpus = within_quota(count(together.cpus));
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
  const char* session =
      std::getenv("PMIX_SERVER_TMPDIR");  // the launcher's folder for this job on this host; it removes it
  const char* job = std::getenv("PMIX_NAMESPACE");
  if (session == nullptr || job == nullptr) return true;
  const std::string claim = join(session, "/slipway-error.", job);
  const int descriptor = ::open(claim.c_str(), O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (descriptor < 0) return errno != EEXIST;
  ::close(descriptor);
  return true;
}

std::string mpi_version() { return mpi::version(); }
bool mpi_running() { return mpi::is_initialized(); }

}  // namespace slipway
