// The part of NCCL that Slipway uses, with NVIDIA's prototypes, over MPI: a collective runs when its stream reaches it,
// and waits for its peers as MPI does.
#include "kernels/cuda_emulation/nccl.hpp"

#include <nccl.h>

#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "kernels/cuda_emulation/memory.hpp"
#include "kernels/cuda_emulation/streams.hpp"

using namespace slipway::cuda_emulation;

/// A communicator of this process.
struct ncclComm {
  MPI_Comm comm = MPI_COMM_NULL;  // null for one rank
  int rank = 0, size = 1;
  std::atomic<ncclResult_t> async_error = ncclSuccess;  // never reset
  std::atomic<int> captured = 0;                        // its collectives in live graphs
};

namespace {

/// Waits for requests of the host. Meanwhile queued GPU work runs, since peers may need it.
int wait_all(int started, MPI_Request* requests, int count) {
  if (started != MPI_SUCCESS) return started;
  for (int done = 0; done == 0;) {
    if (const int code = PMPI_Testall(count, requests, &done, MPI_STATUSES_IGNORE); code != MPI_SUCCESS) return code;
    if (done == 0 && !make_progress()) std::this_thread::yield();
  }
  return MPI_SUCCESS;
}

/// The contents of a unique id: the world rank that created it, and a count of its ids.
struct UniqueIdContents {
  int root = 0, number = 0;
};

/// The message by which a rank joins: sent to the root of the id.
struct JoinMessage {
  int rank = 0, world_rank = 0;
};

/// Sends and receives between ncclGroupStart and ncclGroupEnd, which are posted together.
struct Group {
  int depth = 0;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
  std::vector<std::function<MPI_Request(MPI_Comm)>> posts;
};
thread_local Group group;

std::vector<ncclComm_t>& communicators() {
  static std::vector<ncclComm_t>& all = *new std::vector<ncclComm_t>;
  return all;
}

int world_rank() {
  int started = 0, rank = 0;
  MPI_Initialized(&started);
  if (started != 0) MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

std::size_t bytes_of(ncclDataType_t type) {
  switch (type) {
    case ncclInt8:
    case ncclUint8: return 1;
    case ncclFloat16:
    case ncclBfloat16: return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32: return 4;
    default: return 8;
  }
}

ncclResult_t result_of(int mpi) { return mpi == MPI_SUCCESS ? ncclSuccess : ncclRemoteError; }

/// The argument checks of every collective.
ncclResult_t check_arguments(ncclComm_t comm, std::initializer_list<std::pair<const void*, std::size_t>> ranges) {
  if (comm == nullptr) return ncclInvalidArgument;
  if (comm->async_error != ncclSuccess) return comm->async_error;
  for (const auto& [memory, bytes] : ranges)
    if (bytes != 0 && !is_device_range(memory, bytes)) return ncclInvalidArgument;
  return ncclSuccess;
}

/// Queues an MPI call, whose errors are reported by ncclCommGetAsyncError.
ncclResult_t queue(ncclComm_t comm, cudaStream_t stream, std::function<int(MPI_Comm)> call) {
  std::shared_ptr<ncclComm> captured;
  if (is_capturing()) ++comm->captured, captured = {comm, [](ncclComm* captured_comm) { --captured_comm->captured; }};
  enqueue(stream, [comm, captured, call = std::move(call)] {
    if (const ncclResult_t result = result_of(call(comm->comm)); result != ncclSuccess) comm->async_error = result;
  });
  return ncclSuccess;
}

/// Queues a send or a receive; inside a group, ncclGroupEnd queues it together with the others.
ncclResult_t post(ncclComm_t comm, cudaStream_t stream, std::function<MPI_Request(MPI_Comm)> start) {
  if (group.depth == 0)
    return queue(comm, stream, [start = std::move(start)](MPI_Comm mpi) {
      MPI_Request request = start(mpi);
      return MPI_Wait(&request, MPI_STATUS_IGNORE);
    });
  if (group.comm != nullptr && (group.comm != comm || group.stream != stream))
    return ncclInvalidUsage;  // not implemented
  group.comm = comm, group.stream = stream;
  group.posts.push_back(std::move(start));
  return ncclSuccess;
}

/// NCCL does not end a communicator while a graph holds collectives of it: the caller has to drop the graphs, or wait
/// in another thread.
void wait_for_graphs(const char* call, const ncclComm& comm) {
  constexpr int kTimeout_ms = 10'000;
  for (int waited_ms = 0; comm.captured > 0; ++waited_ms) {
    if (waited_ms == kTimeout_ms) {
      std::fprintf(stderr, "CUDA emulation: %s waits for graphs that hold collectives of its communicator\n", call);
      std::abort();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

extern "C" {

// The blocking MPI calls of the program, replaced by nonblocking ones that let queued GPU work run meanwhile.
int MPI_Barrier(MPI_Comm comm) {
  MPI_Request request;
  return wait_all(PMPI_Ibarrier(comm, &request), &request, 1);
}
int MPI_Bcast(void* bytes, int count, MPI_Datatype type, int root, MPI_Comm comm) {
  MPI_Request request;
  return wait_all(PMPI_Ibcast(bytes, count, type, root, comm, &request), &request, 1);
}
int MPI_Allgather(const void* mine, int mine_count, MPI_Datatype mine_type, void* all, int count, MPI_Datatype type,
                  MPI_Comm comm) {
  MPI_Request request;
  return wait_all(PMPI_Iallgather(mine, mine_count, mine_type, all, count, type, comm, &request), &request, 1);
}
int MPI_Sendrecv(const void* send, int send_count, MPI_Datatype send_type, int to, int send_tag, void* receive,
                 int receive_count, MPI_Datatype receive_type, int from, int receive_tag, MPI_Comm comm, MPI_Status*) {
  MPI_Request both[2];
  int started = PMPI_Irecv(receive, receive_count, receive_type, from, receive_tag, comm, &both[0]);
  if (started == MPI_SUCCESS) started = PMPI_Isend(send, send_count, send_type, to, send_tag, comm, &both[1]);
  return wait_all(started, both, 2);
}

ncclResult_t ncclGetVersion(int* version) { return *version = NCCL_VERSION_CODE, ncclSuccess; }
const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess: return "no error";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    case ncclRemoteError: return "remote process exited or there was a network error";
    default: return "internal error";
  }
}
const char* ncclGetLastError(ncclComm_t) { return ""; }

ncclResult_t ncclGetUniqueId(ncclUniqueId* unique) {
  static int count = 0;
  const UniqueIdContents id{world_rank(), count++};
  *unique = {};
  std::memcpy(unique->internal, &id, sizeof id);
  return ncclSuccess;
}

/// The root gathers the world ranks of all members and sends them back, so that any ranks can form a communicator.
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int size, ncclUniqueId unique, int rank) {
  if (size < 1 || rank < 0 || rank >= size) return ncclInvalidArgument;
  auto* created = new ncclComm;
  created->rank = rank, created->size = size;
  communicators().push_back(created);
  *comm = created;
  if (size == 1) return ncclSuccess;
  UniqueIdContents id;
  std::memcpy(&id, unique.internal, sizeof id);
  constexpr int kTags = 1 << 14;
  const int tag = id.number % kTags, mine = world_rank();
  std::vector<int> world_ranks(static_cast<std::size_t>(size));
  if (mine == id.root) {
    world_ranks[static_cast<std::size_t>(rank)] = mine;
    for (int i = 1; i < size; ++i) {
      JoinMessage message;
      MPI_Recv(&message, sizeof message, MPI_BYTE, MPI_ANY_SOURCE, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      world_ranks[static_cast<std::size_t>(message.rank)] = message.world_rank;
    }
    for (const int other : world_ranks)
      if (other != mine) MPI_Send(world_ranks.data(), size, MPI_INT, other, kTags + tag, MPI_COMM_WORLD);
  } else {
    const JoinMessage message{rank, mine};
    MPI_Send(&message, sizeof message, MPI_BYTE, id.root, tag, MPI_COMM_WORLD);
    MPI_Recv(world_ranks.data(), size, MPI_INT, id.root, kTags + tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  }
  MPI_Group all, members;
  MPI_Comm_group(MPI_COMM_WORLD, &all);
  MPI_Group_incl(all, size, world_ranks.data(), &members);
  const int code = MPI_Comm_create_group(MPI_COMM_WORLD, members, 2 * kTags + tag, &created->comm);
  MPI_Group_free(&members);
  MPI_Group_free(&all);
  MPI_Comm_set_errhandler(created->comm, MPI_ERRORS_RETURN);
  return result_of(code);
}

/// The MPI communicator is freed by MPI_Finalize: freeing it here would wait for the other ranks.
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  device_synchronize();
  wait_for_graphs("ncclCommDestroy", *comm);
  std::erase(communicators(), comm);
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  comm->async_error = ncclRemoteError;  // not deleted: queued work still points to it
  wait_for_graphs("ncclCommAbort", *comm);
  return ncclSuccess;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* result) {
  return *result = comm->async_error, ncclSuccess;
}

ncclResult_t ncclBroadcast(const void* send, void* receive, std::size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  const std::size_t bytes = count * bytes_of(type);
  if (const ncclResult_t result = check_arguments(comm, {{receive, bytes}}); result != ncclSuccess) return result;
  return queue(comm, stream, [=, rank = comm->rank, size = comm->size](MPI_Comm mpi) {
    if (rank == root && send != receive) std::memcpy(receive, send, bytes);
    return size == 1 ? MPI_SUCCESS : PMPI_Bcast(receive, static_cast<int>(bytes), MPI_BYTE, root, mpi);
  });
}

ncclResult_t ncclAllGather(const void* send, void* receive, std::size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  const std::size_t bytes = count * bytes_of(type);
  if (comm == nullptr) return ncclInvalidArgument;
  const ncclResult_t result =
      check_arguments(comm, {{send, bytes}, {receive, bytes * static_cast<std::size_t>(comm->size)}});
  if (result != ncclSuccess) return result;
  return queue(comm, stream, [=, rank = comm->rank, size = comm->size](MPI_Comm mpi) {
    char* local_chunk = static_cast<char*>(receive) + static_cast<std::size_t>(rank) * bytes;
    if (local_chunk != send) std::memmove(local_chunk, send, bytes);
    const int part = static_cast<int>(bytes);
    return size == 1 ? MPI_SUCCESS : PMPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, receive, part, MPI_BYTE, mpi);
  });
}

/// Only sums of f32, in MPI's order.
ncclResult_t ncclAllReduce(const void* send, void* receive, std::size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  if (type != ncclFloat32 || op != ncclSum) return ncclInvalidArgument;
  const std::size_t bytes = count * sizeof(float);
  const ncclResult_t result = check_arguments(comm, {{send, bytes}, {receive, bytes}});
  if (result != ncclSuccess) return result;
  return queue(comm, stream, [=, size = comm->size](MPI_Comm mpi) {
    if (send != receive) std::memcpy(receive, send, bytes);
    return size == 1 ? MPI_SUCCESS
                     : MPI_Allreduce(MPI_IN_PLACE, receive, static_cast<int>(count), MPI_FLOAT, MPI_SUM, mpi);
  });
}

ncclResult_t ncclSend(const void* send, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  const std::size_t bytes = count * bytes_of(type);
  if (const ncclResult_t result = check_arguments(comm, {{send, bytes}}); result != ncclSuccess) return result;
  return post(comm, stream, [=](MPI_Comm mpi) {
    MPI_Request request;
    MPI_Isend(send, static_cast<int>(bytes), MPI_BYTE, peer, 0, mpi, &request);
    return request;
  });
}
ncclResult_t ncclRecv(void* receive, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  const std::size_t bytes = count * bytes_of(type);
  if (const ncclResult_t result = check_arguments(comm, {{receive, bytes}}); result != ncclSuccess) return result;
  return post(comm, stream, [=](MPI_Comm mpi) {
    MPI_Request request;
    MPI_Irecv(receive, static_cast<int>(bytes), MPI_BYTE, peer, 0, mpi, &request);
    return request;
  });
}

ncclResult_t ncclGroupStart() { return ++group.depth, ncclSuccess; }
ncclResult_t ncclGroupEnd() {
  if (group.depth == 0) return ncclInvalidUsage;
  if (--group.depth > 0 || group.posts.empty()) return ncclSuccess;
  const Group closed_group = std::exchange(group, {});
  return queue(closed_group.comm, closed_group.stream, [posts = closed_group.posts](MPI_Comm mpi) {
    std::vector<MPI_Request> requests;
    for (const auto& start : posts) requests.push_back(start(mpi));
    return MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE);
  });
}

}  // extern "C"

void slipway::cuda_emulation::inject_peer_loss() {
  for (const ncclComm_t comm : communicators()) comm->async_error = ncclRemoteError;
}
