// Everything that knows NCCL stands in this file.
#include "kernels/cuda/nccl.cuh"

#if defined(SLIPWAY_NCCL)

#include <nccl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/cuda/queue.cuh"

namespace slipway::cuda {
namespace {

constexpr char kRemedy[] = "; look at the other ranks' hosts, then go on from the newest checkpoint with --resume";

/// The communicators that this process is a member of.
std::vector<ncclComm_t>& members() {
  static std::vector<ncclComm_t> all;
  return all;
}

void check(const char* call, ncclResult_t result, ncclComm_t member = nullptr) {
  if (result == ncclSuccess || result == ncclInProgress) return;
  const char* more = ncclGetLastError(member);
  throw Error(Fault::kComm, join("NCCL reports in ", call, ": ", ncclGetErrorString(result),
                                 more == nullptr || *more == '\0' ? "" : join(" (", more, ")"), kRemedy));
}

/// What failed while nobody called: a peer that is gone, a link that is down. After it no message can be trusted.
void look_for_failures() {
  for (const ncclComm_t member : members()) {
    ncclResult_t result = ncclSuccess;
    check("ncclCommGetAsyncError", ncclCommGetAsyncError(member, &result), member);
    if (result == ncclSuccess || result == ncclInProgress) continue;
    const std::string why = ncclGetErrorString(result);
    for (const ncclComm_t each : std::exchange(members(), {})) ncclCommAbort(each);  // ends what waits on the GPU
    throw Error(Fault::kComm, join("NCCL has lost a peer: ", why, kRemedy));
  }
}

std::string identity() {
  int device = 0;
  cuda::check("cudaGetDevice", cudaGetDevice(&device));
  if (kOnHost) return join("process ", ::getpid(), " of ", ::gethostid());
  cudaDeviceProp properties;
  cuda::check("cudaGetDeviceProperties", cudaGetDeviceProperties(&properties, device));
  return {properties.uuid.bytes, sizeof properties.uuid.bytes};
}

DeviceMessages::Id new_id() {
  ncclUniqueId id;
  check("ncclGetUniqueId", ncclGetUniqueId(&id));
  DeviceMessages::Id bytes{};
  static_assert(sizeof id == sizeof bytes);
  std::memcpy(bytes.data(), &id, sizeof id);
  return bytes;
}

void* join_group(const DeviceMessages::Id& bytes, int rank, int size) {
  ncclUniqueId id;
  std::memcpy(&id, bytes.data(), sizeof id);
  ncclComm_t member = nullptr;
  check("ncclCommInitRank", ncclCommInitRank(&member, size, id, rank));
  members().push_back(member);
  watch_while_waiting(look_for_failures);
  return member;
}

void leave(void* group) noexcept {
  const auto member = static_cast<ncclComm_t>(group);
  if (std::erase(members(), member) != 0) ncclCommDestroy(member);
}

cudaStream_t stream() { return main_queue().stream(); }

void broadcast(void* group, void* bytes, std::size_t count, int root) {
  const auto member = static_cast<ncclComm_t>(group);
  check("ncclBroadcast", ncclBroadcast(bytes, bytes, count, ncclInt8, root, member, stream()), member);
}

void all_gather(void* group, const void* mine, std::size_t count, void* all) {
  const auto member = static_cast<ncclComm_t>(group);
  check("ncclAllGather", ncclAllGather(mine, all, count, ncclInt8, member, stream()), member);
}

void exchange(void* group, int peer, const void* send, void* receive, std::size_t count) {
  const auto member = static_cast<ncclComm_t>(group);
  check("ncclGroupStart", ncclGroupStart());
  check("ncclSend", ncclSend(send, count, ncclInt8, peer, member, stream()), member);
  check("ncclRecv", ncclRecv(receive, count, ncclInt8, peer, member, stream()), member);
  check("ncclGroupEnd", ncclGroupEnd(), member);
}

void all_reduce_sum(void* group, float* x, std::size_t count) {
  const auto member = static_cast<ncclComm_t>(group);
  check("ncclAllReduce", ncclAllReduce(x, x, count, ncclFloat32, ncclSum, member, stream()), member);
}

}  // namespace

const DeviceMessages* messages() {
  static const DeviceMessages nccl{.name = "nccl",
                                   .identity = identity,
                                   .new_id = new_id,
                                   .join = join_group,
                                   .leave = leave,
                                   .broadcast = broadcast,
                                   .all_gather = all_gather,
                                   .exchange = exchange,
                                   .all_reduce_sum = all_reduce_sum,
                                   .on_wait = tell_of_waits};
  return &nccl;
}

}  // namespace slipway::cuda

#else

namespace slipway::cuda {

const DeviceMessages* messages() { return nullptr; }

}  // namespace slipway::cuda

#endif
