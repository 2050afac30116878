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
constexpr bool kBuilt = true;
#else
constexpr bool kBuilt = false;
#endif

/// The backend, or why there is none.
struct Opened {
  const cuda::BackendLibrary* library = nullptr;
  bool built = false;
  std::string unavailable_reason;
};

/// Beside the program, or where `cmake --install` puts it.
std::filesystem::path library_file() {
  std::error_code none;
  const std::filesystem::path folder = std::filesystem::read_symlink("/proc/self/exe", none).parent_path();
  for (const auto& place : {folder / kLibrary, folder.parent_path() / kLibrary,  // of a test
                            folder.parent_path() / "lib" / "slipway" / kLibrary})
    if (std::filesystem::exists(place, none)) return place;
  return {};
}

Opened open_backend() {
  if (slipway_cuda_backend != nullptr) return {&slipway_cuda_backend(), true, ""};
  const std::filesystem::path file = library_file();
  if (file.empty() && kBuilt)
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
  const cuda::BackendLibrary& opened = entry();
  if (opened.version != std::string(SLIPWAY_VERSION))
    return {nullptr, true,
            join(file.string(), " belongs to slipway ", opened.version, ", and this is ", SLIPWAY_VERSION,
                 ": build slipway again")};
  return {&opened, true, ""};
}

const Opened& opened() {
  static const Opened once = open_backend();
  return once;
}

bool is_number(const std::string& text) {
  return !text.empty() && text.size() < 6 && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

CudaInfo look_for_cuda() {
  const Opened& there = opened();
  CudaInfo found{.built = there.built, .unavailable_reason = there.unavailable_reason};
  if (there.library == nullptr) return found;
  found.is_emulated = there.library->is_emulated;
  found.runtime = there.library->runtime;
  try {
    for (const cuda::Gpu& gpu : there.library->gpus())
      found.gpus.push_back(join(gpu.name, ", ", gpu.architecture, ", ", gpu.bytes >> 30, " GiB"));
  } catch (const Error& error) {
    found.unavailable_reason = error.what();
  }
  return found;
}

}  // namespace

const CudaInfo& find_cuda() {
  static const CudaInfo once = look_for_cuda();
  return once;
}

const Backend& backend_for(const std::string& word, int local_rank, std::string_view instructions) {
  constexpr std::string_view kCuda = "cuda";
  const Backend& cpu = cpu_backend(instructions);  // refused wherever the run computes
  if (word == "cpu") return cpu;
  const bool any = word == kCuda, numbered = word.starts_with("cuda:") && is_number(word.substr(kCuda.size() + 1));
  if (!any && !numbered && word != "auto")
    throw Error(Fault::kConfig, join("--device is '", word, "', but cpu, cuda, cuda:N or auto is expected"));
  const CudaInfo& found = find_cuda();
  if (word == "auto" && (!found.unavailable_reason.empty() || found.is_emulated)) return cpu;
  if (!found.unavailable_reason.empty())
    throw Error(Fault::kDevice, join("--device ", word, " asks for a GPU, but ", found.unavailable_reason));
  const int index =
      numbered ? std::stoi(word.substr(kCuda.size() + 1)) : local_rank % static_cast<int>(found.gpus.size());
  const Backend& backend = opened().library->open(index);
  profile::set_listener(opened().library->ranges);
  return backend;
}

std::string hardware_of(const Backend& backend) {
  if (backend.memory->is_host()) return cpu_features().model;
  const std::string device = backend.device;  // "cuda:N"
  return find_cuda().gpus.at(static_cast<std::size_t>(std::stoi(device.substr(device.find(':') + 1))));
}

}  // namespace slipway
