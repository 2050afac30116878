// The only file that knows MPI.
#include "comm/mpi_group.hpp"

#define OMPI_SKIP_MPICXX 1  // the C++ bindings, which MPI has dropped
#include <mpi.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <thread>
#include <vector>

#include "comm/watchdog.hpp"
#include "src/core/error.hpp"

namespace slipway::mpi {
namespace {

std::size_t message_bytes = std::size_t{1} << 30;  // MPI counts in int
std::thread::id mpi_thread;                        // the thread that started MPI

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw Error(Fault::kComm,
              join("MPI reports in ", call, ": ", std::string(text, static_cast<std::size_t>(length)),
                   "; look at the other ranks' hosts, then go on from the newest checkpoint with --resume"));
}

/// Calls `part(offset, count)` for parts that MPI's int counts can say.
template <class Call>
void for_each_chunk(std::size_t count, const Call& call) {
  for (std::size_t offset = 0; offset < count; offset += message_bytes)
    call(offset, static_cast<int>(std::min(message_bytes, count - offset)));
}

class MpiGroup final : public Group {
 public:
  MpiGroup(MPI_Comm comm, Reduction reduction) : Group(reduction), comm_(comm) {
    check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");

    std::vector<int> members(static_cast<std::size_t>(size_));
    for (int r = 0; r < size_; ++r) members[static_cast<std::size_t>(r)] = r;
    world_ranks_.resize(members.size());
    MPI_Group group, world;
    check(MPI_Comm_group(comm_, &group), "MPI_Comm_group");
    check(MPI_Comm_group(MPI_COMM_WORLD, &world), "MPI_Comm_group");
    check(MPI_Group_translate_ranks(group, size_, members.data(), world, world_ranks_.data()),
          "MPI_Group_translate_ranks");
    MPI_Group_free(&group);
    MPI_Group_free(&world);
  }
  ~MpiGroup() override {
    if (is_initialized() && std::uncaught_exceptions() == 0) MPI_Comm_free(&comm_);  // it may wait for peers
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const char* name() const override { return "mpi"; }
  int world_rank(int member) const override { return world_ranks_[static_cast<std::size_t>(member)]; }

  void barrier() override {
    const CollectiveScope call = start_collective("barrier");
    check(MPI_Barrier(comm_), "MPI_Barrier");
  }

  void broadcast(void* bytes, std::size_t count, int root) override {
    const CollectiveScope call = start_collective("broadcast", root == rank_ ? -1 : root);
    for_each_chunk(count, [&](std::size_t offset, int chunk_bytes) {
      check(MPI_Bcast(static_cast<std::byte*>(bytes) + offset, chunk_bytes, MPI_BYTE, root, comm_), "MPI_Bcast");
    });
  }

  void all_gather(const void* send, std::size_t count, void* receive) override {
    const CollectiveScope call = start_collective("all_gather");
    std::byte* local_chunk = static_cast<std::byte*>(receive) + static_cast<std::size_t>(rank_) * count;
    if (count <= message_bytes) {
      const int chunk_bytes = static_cast<int>(count);
      check(MPI_Allgather(local_chunk == send ? MPI_IN_PLACE : send, chunk_bytes, MPI_BYTE, receive, chunk_bytes,
                          MPI_BYTE, comm_),
            "MPI_Allgather");
      return;
    }
    if (local_chunk != send) std::copy_n(static_cast<const std::byte*>(send), count, local_chunk);
    for (int r = 0; r < size_; ++r)
      broadcast(static_cast<std::byte*>(receive) + static_cast<std::size_t>(r) * count, count, r);
  }

  void send_recv(int peer, const void* send, void* receive, std::size_t count) override {
    const CollectiveScope call = start_collective("send_recv", peer);
    for_each_chunk(count, [&](std::size_t offset, int chunk_bytes) {
      check(MPI_Sendrecv(static_cast<const std::byte*>(send) + offset, chunk_bytes, MPI_BYTE, peer, 0,
                         static_cast<std::byte*>(receive) + offset, chunk_bytes, MPI_BYTE, peer, 0, comm_,
                         MPI_STATUS_IGNORE),
            "MPI_Sendrecv");
    });
  }

 private:
  CollectiveScope start_collective(const char* name, int peer = -1) const {
    require(std::this_thread::get_id() == mpi_thread, "MPI is used by another thread than the one that started it");
    return CollectiveScope(name, world_rank(rank_), peer < 0 ? -1 : world_rank(peer));
  }

  MPI_Comm comm_;
  int rank_ = 0;
  int size_ = 1;
  std::vector<int> world_ranks_;
};

}  // namespace

void init() {
  setenv("OMPI_MCA_mpi_yield_when_idle", "1", /*overwrite=*/0);  // else a waiting rank keeps a core from a working one
  int provided = 0;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  if (provided < MPI_THREAD_FUNNELED)
    throw Error(Fault::kComm,
                "this MPI was built without threads (MPI_THREAD_FUNNELED): install Open MPI from Debian's packages");
  check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  mpi_thread = std::this_thread::get_id();
}

void finalize() { MPI_Finalize(); }

std::string version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);
  const std::string full_version(text, static_cast<std::size_t>(length));
  return full_version.substr(0, full_version.find(','));
}

bool is_initialized() {
  int started = 0, ended = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&ended);
  return started != 0 && ended == 0;
}

void abort(int status) {
  MPI_Abort(MPI_COMM_WORLD, status);
  std::_Exit(status);
}

std::unique_ptr<Group> world_group() {
  MPI_Comm comm;
  check(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
  return std::make_unique<MpiGroup>(comm, Reduction::kCanonical);
}

std::unique_ptr<Group> split(int color, int key, Reduction reduction) {
  MPI_Comm comm;
  check(MPI_Comm_split(MPI_COMM_WORLD, color, key, &comm), "MPI_Comm_split");
  return std::make_unique<MpiGroup>(comm, reduction);
}

void set_max_message_bytes(std::size_t bytes) { message_bytes = bytes; }

}  // namespace slipway::mpi
