// The part of the CUDA runtime that Slipway uses, with NVIDIA's prototypes.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels/cuda_emulation/memory.hpp"
#include "kernels/cuda_emulation/streams.hpp"
#include "kernels/cuda_emulation/thread_blocks.hpp"

using namespace slipway::cuda_emulation;

struct CUgraph_st {
  std::vector<std::function<void()>> work;
};
struct CUgraphExec_st {
  std::vector<std::function<void()>> work;
};

namespace {

thread_local cudaError_t last_error = cudaSuccess;

/// Returns `error`, and saves it for cudaGetLastError.
cudaError_t set_last_error(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

/// The status of a call that succeeded, unless the device is lost.
cudaError_t device_status() { return set_last_error(device_is_lost() ? cudaErrorIllegalAddress : cudaSuccess); }

struct ErrorName {
  cudaError_t error;
  const char* name;
  const char* message;
};
constexpr ErrorName kErrors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorHostMemoryNotRegistered, "cudaErrorHostMemoryNotRegistered", "pointer is not registered"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalState, "cudaErrorIllegalState", "the operation cannot be performed in the present state"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined",
     "capture was not ended in a stream that all others have joined again"},
};

/// Whether `kind` matches the memory that the pointers point to.
bool matches_memory(cudaMemcpyKind kind, const void* to, const void* from) {
  const bool to_device = kind_of(to) == MemoryKind::kDevice, from_device = kind_of(from) == MemoryKind::kDevice;
  switch (kind) {
    case cudaMemcpyHostToHost: return !to_device && !from_device;
    case cudaMemcpyHostToDevice: return to_device && !from_device;
    case cudaMemcpyDeviceToHost: return !to_device && from_device;
    case cudaMemcpyDeviceToDevice: return to_device && from_device;
    case cudaMemcpyDefault: return true;
  }
  return false;
}

/// Whether the range lies within one allocation, if it is in device memory.
bool is_valid_range(const void* memory, std::size_t bytes) {
  return kind_of(memory) != MemoryKind::kDevice || is_device_range(memory, bytes);
}

}  // namespace

extern "C" {

cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int device) { return set_last_error(device == 0 ? cudaSuccess : cudaErrorInvalidDevice); }
cudaError_t cudaDeviceSynchronize() { return device_synchronize(), device_status(); }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return set_last_error(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "CUDA emulation (no GPU)");
  properties->totalGlobalMem = device_use().total;
  properties->sharedMemPerBlock = 48 << 10;
  properties->sharedMemPerBlockOptin = 227 << 10;
  properties->warpSize = 32;
  properties->maxThreadsPerBlock = 1024;
  properties->multiProcessorCount = 1;
  properties->major = 8;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) { return *value = 0, cudaSuccess; }
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  const DeviceUse use = device_use();
  *free = use.total - use.allocated, *total = use.total;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  if (is_capturing()) return set_last_error(cudaErrorStreamCaptureUnsupported);
  if (device_is_lost()) return device_status();
  *memory = allocate_device(bytes);
  return set_last_error(*memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}
/// As on a GPU, pending work completes first.
cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  if (is_capturing()) return set_last_error(cudaErrorStreamCaptureUnsupported);
  device_synchronize();
  return free_device(memory) ? device_status() : set_last_error(cudaErrorInvalidValue);
}
cudaError_t cudaMallocHost(void** memory, std::size_t bytes) {
  *memory = allocate_pinned(bytes);
  return set_last_error(*memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess);
}
cudaError_t cudaFreeHost(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  device_synchronize();
  return set_last_error(free_pinned(memory) ? cudaSuccess : cudaErrorInvalidValue);
}
cudaError_t cudaHostRegister(void* memory, std::size_t bytes, unsigned) {
  return register_pinned(memory, bytes), cudaSuccess;
}
cudaError_t cudaHostUnregister(void* memory) {
  return set_last_error(unregister_pinned(memory) ? cudaSuccess : cudaErrorHostMemoryNotRegistered);
}

/// Pageable memory is read before this returns, pinned memory when the stream reaches the copy; a copy to pageable
/// memory completes before this returns. So a buffer that is reused or read too early gives wrong results.
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return cudaMemcpy2DAsync(to, bytes, from, bytes, bytes, 1, kind, stream);
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  if (width == 0 || height == 0) return cudaSuccess;
  if (is_capturing() && (kind_of(to) == MemoryKind::kPageable || kind_of(from) == MemoryKind::kPageable))
    return set_last_error(cudaErrorStreamCaptureUnsupported);
  if (width > to_pitch || width > from_pitch) return set_last_error(cudaErrorInvalidValue);
  if (!matches_memory(kind, to, from)) return set_last_error(cudaErrorInvalidMemcpyDirection);
  if (!is_valid_range(to, to_pitch * (height - 1) + width) || !is_valid_range(from, from_pitch * (height - 1) + width))
    return set_last_error(cudaErrorInvalidValue);
  const auto copy = [=](const void* source, std::size_t pitch) {
    for (std::size_t row = 0; row < height; ++row)
      std::memcpy(static_cast<char*>(to) + row * to_pitch, static_cast<const char*>(source) + row * pitch, width);
  };
  if (kind_of(from) == MemoryKind::kPageable) {
    auto staged = std::make_shared<std::vector<char>>(from_pitch * (height - 1) + width);
    std::memcpy(staged->data(), from, staged->size());
    enqueue(stream, [=] { copy(staged->data(), from_pitch); });
  } else {
    enqueue(stream, [=] { copy(from, from_pitch); });
  }
  if (kind_of(to) == MemoryKind::kPageable) synchronize(stream);
  return device_status();
}
cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream) {
  if (bytes == 0) return cudaSuccess;
  if (!is_device_range(memory, bytes)) return set_last_error(cudaErrorInvalidValue);
  enqueue(stream, [=] { std::memset(memory, value, bytes); });
  return device_status();
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return *stream = create_stream(), cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return destroy_stream(stream), cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (is_capturing()) return set_last_error(cudaErrorStreamCaptureUnsupported);
  return synchronize(stream), device_status();
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (is_capturing()) return set_last_error(cudaErrorStreamCaptureUnsupported);
  return query(stream) ? device_status() : cudaErrorNotReady;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  return stream_wait_event(stream, event), device_status();
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return *event = create_event((flags & cudaEventDisableTiming) == 0), cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) { return destroy_event(event), cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) { return record(event, stream), device_status(); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return synchronize(event), device_status(); }
cudaError_t cudaEventQuery(cudaEvent_t event) { return query(event) ? device_status() : cudaErrorNotReady; }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from, cudaEvent_t to) {
  const double from_s = record_time_s(from), to_s = record_time_s(to);
  if (from_s < 0 || to_s < 0) return set_last_error(cudaErrorInvalidResourceHandle);
  *milliseconds = static_cast<float>((to_s - from_s) * 1e3);
  return cudaSuccess;
}

// Graphs: captured work runs in the order of the calls, which satisfies every dependency between streams.
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (is_capturing()) return set_last_error(cudaErrorIllegalState);
  return begin_capture(stream), cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  CapturedWork captured = end_capture(stream);
  *graph = nullptr;
  if (!captured.all_joined) return set_last_error(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{std::move(captured.work)};
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraphExec_st{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  for (const std::function<void()>& work : graph->work) enqueue(stream, work);
  return device_status();
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  device_synchronize();  // as on a GPU, pending work completes first
  return delete graph, cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = device_is_lost() ? device_status() : last_error;
  last_error = cudaSuccess;
  return error;
}
const char* cudaGetErrorName(cudaError_t error) {
  for (const ErrorName& entry : kErrors)
    if (entry.error == error) return entry.name;
  return "cudaErrorUnknown";
}
const char* cudaGetErrorString(cudaError_t error) {
  for (const ErrorName& entry : kErrors)
    if (entry.error == error) return entry.message;
  return "an error that has no words on the CUDA emulation";
}

}  // extern "C"
