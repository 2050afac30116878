#include "kernels/cuda/backend_library.hpp"

#include <nvtx3/nvToolsExt.h>

#include <cstdio>
#include <optional>

#include "kernels/cuda/cuda_stream.cuh"
#include "kernels/cuda/graph_capture.cuh"
#include "kernels/cuda/memory.cuh"
#include "kernels/cuda/nccl.cuh"
#include "kernels/cuda/ops.cuh"

namespace slipway::cuda {
namespace {

constexpr int kMinMajor = 8;  // Ampere: the first with bf16 tensor cores

std::string version_text(int version) { return join(version / 1000, ".", version % 1000 / 10); }

std::vector<Gpu> gpus() {
  int driver = 0, runtime = 0, count = 0;
  check("cudaRuntimeGetVersion", cudaRuntimeGetVersion(&runtime));
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
    throw Error(Fault::kDevice, "no NVIDIA driver answers: install one, or use --device cpu");
  if (driver / 1000 < runtime / 1000)  // within one major version older drivers serve newer runtimes
    throw Error(Fault::kDevice,
                join("the NVIDIA driver is too old: it serves CUDA ", version_text(driver), ", and this slipway needs ",
                     version_text(runtime), "; install a newer driver, or use --device cpu"));
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver)
    throw Error(Fault::kDevice, join("the NVIDIA driver is too old for CUDA ", version_text(runtime),
                                     ": install a newer one, or use --device cpu"));
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0))
    throw Error(Fault::kDevice,
                "the NVIDIA driver finds no GPU that this process may use: look at nvidia-smi and "
                "CUDA_VISIBLE_DEVICES, or use --device cpu");
  check("cudaGetDeviceCount", status);
  std::vector<Gpu> devices;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    check("cudaGetDeviceProperties", cudaGetDeviceProperties(&properties, i));
    devices.push_back({properties.name, join("sm_", properties.major, properties.minor), properties.totalGlobalMem});
  }
  return devices;
}

/// A GPU's table, and the strings that it points to.
struct OpenDevice {
  int index;
  std::string device, architecture;
  Backend backend;

  OpenDevice(int device_index, const Gpu& gpu)
      : index(device_index),
        device(join("cuda:", device_index)),
        architecture(gpu.architecture),
        backend{.name = "cuda",
                .instructions = architecture.c_str(),
                .gemm_library = "cublaslt",
                .device = device.c_str(),
                .native_bf16 = true,
                .memory = &memory(),
                .collectives = collectives(),
                .graph_capture = graph_capture(),
                .autotuner = gemm_autotuner()} {
#define SLIPWAY_OP(op_name, Op) backend.op_name = cuda::op_name;
    SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP
  }
  OpenDevice(const OpenDevice&) = delete;
  OpenDevice& operator=(const OpenDevice&) = delete;
};

const Backend& open(int index) {
  static std::optional<OpenDevice> open_device;
  if (open_device) {
    require(open_device->index == index, "cuda::open: this process already uses another GPU");
    return open_device->backend;
  }
  const std::vector<Gpu> devices = gpus();
  if (index < 0 || static_cast<std::size_t>(index) >= devices.size())
    throw Error(Fault::kDevice, join("--device cuda:", index, " asks for a GPU that is not there: this process sees ",
                                     devices.size(), ", counted from 0"));
  const Gpu& gpu = devices[static_cast<std::size_t>(index)];
  cudaDeviceProp properties;
  check("cudaGetDeviceProperties", cudaGetDeviceProperties(&properties, index));
  if (properties.major < kMinMajor)
    throw Error(Fault::kDevice, join(gpu.name, " is ", gpu.architecture, ", but sm_", kMinMajor,
                                     "0 (Ampere) is the oldest that this backend computes on; use --device cpu"));
  check("cudaSetDevice", cudaSetDevice(index));
  open_device.emplace(index, gpu);
  return open_device->backend;
}

void push_range(const char* name, int number) {
  if (number < 0) {
    nvtxRangePushA(name);
    return;
  }
  char text[64];
  std::snprintf(text, sizeof text, "%s %d", name, number);
  nvtxRangePushA(text);
}
void pop_range() { nvtxRangePop(); }

}  // namespace
}  // namespace slipway::cuda

const slipway::cuda::BackendLibrary& slipway_cuda_backend() {
  using namespace slipway;
  static const std::string runtime = [] {
    int version = 0;
    cuda::check("cudaRuntimeGetVersion", cudaRuntimeGetVersion(&version));
    return "CUDA " + cuda::version_text(version);
  }();
  static const cuda::BackendLibrary library{.version = SLIPWAY_VERSION,
                                            .runtime = runtime.c_str(),
                                            .is_emulated = cuda::kIsEmulated,
                                            .gpus = cuda::gpus,
                                            .open = cuda::open,
                                            .ranges = {cuda::push_range, cuda::pop_range}};
  return library;
}
