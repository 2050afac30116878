#include "kernels/backend/device.hpp"

#include <dlfcn.h>

#include <algorithm>
#include <filesystem>

#include "kernels/backend/cpu_backend.hpp"
#include "kernels/cuda/backend_library.hpp"

// Defined in programs that have the backend linked in; null in all others, which open its shared object.
extern "C" __attribute__((weak)) const slipway::cuda::BackendLibrary& slipway_cuda_backend();

namespace slipway {
namespace {

constexpr char kLibrary[] = "libslipway_cuda.so";
#if defined(SLIPWAY_CUDA_BACKEND)
constexpr bool kHasCudaBackend = true;
#else
constexpr bool kHasCudaBackend = false;
#endif

/// The backend, or why there is none.
struct LoadedBackend {
  const cuda::BackendLibrary* library = nullptr;
  bool is_built = false;
  std::string unavailable_reason;
};

/// Beside the program, or where `cmake --install` puts it.
std::filesystem::path library_file() {
  std::error_code ignored;
  const std::filesystem::path folder = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
  for (const auto& candidate : {folder / kLibrary, folder.parent_path() / kLibrary,  // of a test
                                folder.parent_path() / "lib" / "slipway" / kLibrary})
    if (std::filesystem::exists(candidate, ignored)) return candidate;
  return {};
}

LoadedBackend open_backend() {
  if (slipway_cuda_backend != nullptr) return {&slipway_cuda_backend(), true, ""};
  const std::filesystem::path file = library_file();
  if (file.empty() && kHasCudaBackend)
    return {nullptr, true, join("its CUDA backend, ", kLibrary, ", is not beside the program: build slipway again")};
  if (file.empty())
    return {nullptr, false, "this slipway is built without CUDA: use --device cpu, or build it with -DSLIPWAY_CUDA=ON"};
  if (::dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL) ==
      nullptr)  // before CUDA's libraries, which are large, are read
    return {nullptr, true,
            "no NVIDIA driver is installed (libcuda.so.1 was not found): install one, or use --device cpu"};
  void* library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    return {nullptr, true, join("its CUDA backend cannot be opened: ", ::dlerror(), "; install the libraries of CUDA")};
  const auto entry = reinterpret_cast<decltype(&slipway_cuda_backend)>(::dlsym(library, "slipway_cuda_backend"));
  if (entry == nullptr) return {nullptr, true, join(file.string(), " is no CUDA backend: build slipway again")};
  const cuda::BackendLibrary& loaded_backend = entry();
  if (loaded_backend.version != std::string(SLIPWAY_VERSION))
    return {nullptr, true,
            join(file.string(), " belongs to slipway ", loaded_backend.version, ", and this is ", SLIPWAY_VERSION,
                 ": build slipway again")};
  return {&loaded_backend, true, ""};
}

const LoadedBackend& loaded_backend() {
  static const LoadedBackend instance = open_backend();
  return instance;
}

bool is_number(const std::string& text) {
  return !text.empty() && text.size() < 6 && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

CudaInfo query_cuda() {
  const LoadedBackend& loaded = loaded_backend();
  CudaInfo info{.is_built = loaded.is_built, .unavailable_reason = loaded.unavailable_reason};
  if (loaded.library == nullptr) return info;
  info.is_emulated = loaded.library->is_emulated;
  info.runtime = loaded.library->runtime;
  try {
    for (const cuda::Gpu& gpu : loaded.library->gpus())
      info.gpus.push_back(join(gpu.name, ", ", gpu.architecture, ", ", gpu.bytes >> 30, " GiB"));
  } catch (const Error& error) {
    info.unavailable_reason = error.what();
  }
  return info;
}

}  // namespace

const CudaInfo& find_cuda() {
  static const CudaInfo instance = query_cuda();
  return instance;
}

const Backend& backend_for(const std::string& word, int local_rank, std::string_view instructions) {
  constexpr std::string_view kCuda = "cuda";
  const Backend& cpu = cpu_backend(instructions);  // refused wherever the run computes
  if (word == "cpu") return cpu;
  const bool any_gpu = word == kCuda, has_index = word.starts_with("cuda:") && is_number(word.substr(kCuda.size() + 1));
  if (!any_gpu && !has_index && word != "auto")
    throw Error(Fault::kConfig, join("--device is '", word, "', but cpu, cuda, cuda:N or auto is expected"));
  const CudaInfo& info = find_cuda();
  if (word == "auto" && (!info.unavailable_reason.empty() || info.is_emulated)) return cpu;
  if (!info.unavailable_reason.empty())
    throw Error(Fault::kDevice, join("--device ", word, " asks for a GPU, but ", info.unavailable_reason));
  const int index =
      has_index ? std::stoi(word.substr(kCuda.size() + 1)) : local_rank % static_cast<int>(info.gpus.size());
  const Backend& backend = loaded_backend().library->open(index);
  profile::set_listener(loaded_backend().library->ranges);
  return backend;
}

std::string hardware_name(const Backend& backend) {
  if (backend.memory->is_host()) return cpu_features().model;
  const std::string device = backend.device;  // "cuda:N"
  return find_cuda().gpus.at(static_cast<std::size_t>(std::stoi(device.substr(device.find(':') + 1))));
}

}  // namespace slipway
