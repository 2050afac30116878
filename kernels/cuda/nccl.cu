// Collectives by NCCL: the only file that includes it.
#include "kernels/cuda/nccl.cuh"

#if defined(SLIPWAY_NCCL)

#include <dlfcn.h>
#include <nccl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <thread>
#include <vector>

#include "kernels/cuda/cuda_stream.cuh"

namespace slipway::cuda {
namespace {

/// NCCL's functions, loaded at the first use: a run on one GPU needs none of them.
struct Library {
// clang-format off
#define SLIPWAY_EACH_NCCL(F) \
  F(ncclGetErrorString) F(ncclGetLastError) F(ncclGetUniqueId) F(ncclCommInitRank) \
  F(ncclCommDestroy) F(ncclCommAbort) F(ncclCommGetAsyncError) F(ncclBroadcast) \
  F(ncclAllGather) F(ncclAllReduce) F(ncclSend) F(ncclRecv) \
  F(ncclGroupStart) F(ncclGroupEnd)
// clang-format on
#define SLIPWAY_NCCL_ENTRY(name) decltype(&::name) name = nullptr;
  SLIPWAY_EACH_NCCL(SLIPWAY_NCCL_ENTRY)
#undef SLIPWAY_NCCL_ENTRY
  bool is_loaded = true;  // all of them were found
};

Library load_library() {
  Library library;
#if defined(__CUDACC__)
  void* library_handle = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  const auto find = [&](const char* name) {
    void* function = library_handle == nullptr ? nullptr : dlsym(library_handle, name);
    library.is_loaded = library.is_loaded && function != nullptr;
    return function;
  };
#define SLIPWAY_NCCL_ENTRY(name) library.name = reinterpret_cast<decltype(&::name)>(find(#name));
#else  // the CUDA emulation is linked
#define SLIPWAY_NCCL_ENTRY(name) library.name = &::name;
#endif
  SLIPWAY_EACH_NCCL(SLIPWAY_NCCL_ENTRY)
#undef SLIPWAY_NCCL_ENTRY
  return library;
}
const Library& nccl() {
  static const Library library = load_library();
  return library;
}

constexpr char kHint[] = "; look at the other ranks' hosts, then go on from the newest checkpoint with --resume";

/// The communicators of this process.
std::vector<ncclComm_t>& communicators() {
  static std::vector<ncclComm_t> all;
  return all;
}

void check(const char* call, ncclResult_t result, ncclComm_t comm = nullptr) {
  if (result == ncclSuccess || result == ncclInProgress) return;
  const char* detail = nccl().ncclGetLastError(comm);
  throw Error(Fault::kComm, join("NCCL reports in ", call, ": ", nccl().ncclGetErrorString(result),
                                 detail == nullptr || *detail == '\0' ? "" : join(" (", detail, ")"), kHint));
}

/// Throws for asynchronous errors, such as a lost peer or a broken link. No collective can be trusted afterwards.
void check_async_errors() {
  for (const ncclComm_t comm : communicators()) {
    ncclResult_t result = ncclSuccess;
    check("ncclCommGetAsyncError", nccl().ncclCommGetAsyncError(comm, &result), comm);
    if (result == ncclSuccess || result == ncclInProgress) continue;
    const std::string reason = nccl().ncclGetErrorString(result);
    // ncclCommAbort ends pending collectives at once, but returns only when no graph holds collectives of the
    // communicator: it runs in a thread, and the caller that catches the error drops the graphs.
    for (const ncclComm_t aborted : std::exchange(communicators(), {}))
      std::thread([aborted] { nccl().ncclCommAbort(aborted); }).detach();
    throw Error(Fault::kComm, join("NCCL has lost a peer: ", reason, kHint));
  }
}

std::string gpu_uuid() {
  int device = 0;
  cuda::check("cudaGetDevice", cudaGetDevice(&device));
  if (kIsEmulated) return join("process ", ::getpid(), " of ", ::gethostid());
  cudaDeviceProp properties;
  cuda::check("cudaGetDeviceProperties", cudaGetDeviceProperties(&properties, device));
  return {properties.uuid.bytes, sizeof properties.uuid.bytes};
}

DeviceCollectives::UniqueId get_unique_id() {
  ncclUniqueId id;
  check("ncclGetUniqueId", nccl().ncclGetUniqueId(&id));
  DeviceCollectives::UniqueId bytes{};
  static_assert(sizeof id == sizeof bytes);
  std::memcpy(bytes.data(), &id, sizeof id);
  return bytes;
}

void* init_comm(const DeviceCollectives::UniqueId& bytes, int rank, int size) {
  ncclUniqueId id;
  std::memcpy(&id, bytes.data(), sizeof id);
  ncclComm_t comm = nullptr;
  check("ncclCommInitRank", nccl().ncclCommInitRank(&comm, size, id, rank));
  communicators().push_back(comm);
  set_wait_poll(check_async_errors);
  return comm;
}

void leave(void* handle) noexcept {
  const auto comm = static_cast<ncclComm_t>(handle);
  if (std::erase(communicators(), comm) != 0) nccl().ncclCommDestroy(comm);
}

bool is_overlapping = false;  // collectives run in the communication stream
cudaStream_t stream() { return (is_overlapping ? comm_stream() : main_stream()).stream(); }

void begin_overlap() {
  wait_stream(comm_stream(), main_stream());
  is_overlapping = true;
}
void end_overlap() {
  wait_stream(main_stream(), comm_stream());
  is_overlapping = false;
}
void copy(void* to, const void* from, std::size_t bytes) {
  cuda::check("copy on the GPU", cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream()));
}
Stream side_stream() { return {&comm_stream()}; }

void broadcast(void* handle, void* bytes, std::size_t count, int root) {
  const auto comm = static_cast<ncclComm_t>(handle);
  check("ncclBroadcast", nccl().ncclBroadcast(bytes, bytes, count, ncclInt8, root, comm, stream()), comm);
}

void all_gather(void* handle, const void* mine, std::size_t count, void* all) {
  const auto comm = static_cast<ncclComm_t>(handle);
  check("ncclAllGather", nccl().ncclAllGather(mine, all, count, ncclInt8, comm, stream()), comm);
}

void send_recv(void* handle, int peer, const void* send, void* receive, std::size_t count) {
  const auto comm = static_cast<ncclComm_t>(handle);
  check("ncclGroupStart", nccl().ncclGroupStart());
  check("ncclSend", nccl().ncclSend(send, count, ncclInt8, peer, comm, stream()), comm);
  check("ncclRecv", nccl().ncclRecv(receive, count, ncclInt8, peer, comm, stream()), comm);
  check("ncclGroupEnd", nccl().ncclGroupEnd(), comm);
}

void all_reduce_sum(void* handle, float* x, std::size_t count) {
  const auto comm = static_cast<ncclComm_t>(handle);
  check("ncclAllReduce", nccl().ncclAllReduce(x, x, count, ncclFloat32, ncclSum, comm, stream()), comm);
}

}  // namespace

const DeviceCollectives* collectives() {
  if (!nccl().is_loaded) return nullptr;
  static const DeviceCollectives all{.name = "nccl",
                                     .gpu_uuid = gpu_uuid,
                                     .get_unique_id = get_unique_id,
                                     .join = init_comm,
                                     .leave = leave,
                                     .broadcast = broadcast,
                                     .all_gather = all_gather,
                                     .send_recv = send_recv,
                                     .all_reduce_sum = all_reduce_sum,
                                     .copy = copy,
                                     .begin_overlap = begin_overlap,
                                     .end_overlap = end_overlap,
                                     .side_stream = side_stream,
                                     .on_wait = set_wait_callbacks};
  return &all;
}

}  // namespace slipway::cuda

#else

namespace slipway::cuda {

const DeviceCollectives* collectives() { return nullptr; }

}  // namespace slipway::cuda

#endif
