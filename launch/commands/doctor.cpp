// slipway doctor: what is installed, what a run would use, and how to install what is missing.
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "comm/world.hpp"
#include "io/hdf5.hpp"
#include "kernels/backend/cpu_backend.hpp"
#include "kernels/backend/device.hpp"
#include "launch/commands/command.hpp"
#include "src/core/clock.hpp"
#include "src/core/cpus.hpp"
#include "src/core/file.hpp"
#include "src/core/json.hpp"
#include "src/core/memory.hpp"
#include "src/core/words.hpp"
#include "src/infer/loaded_model.hpp"

namespace slipway {
namespace {

constexpr Usage kDoctorUsage{
    .summary = "Shows what this machine has, what a run would use, and how to install what is missing.",
    .synopsis = "slipway doctor [--device DEVICE] [--json]",
    .example = "slipway doctor"};

struct DoctorOptions {
  Flag json;
  std::string device = "auto";

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("json", self.json, "print one JSON object");
    visit("device", self.device, {"check this device", "cpu|cuda|cuda:N|auto"});
  }
};

/// The result of one check. `hint` is empty where nothing is missing.
struct CheckResult {
  std::string topic, description, hint;
};

bool is_on_path(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');)
    if (::access((folder + "/" + program).c_str(), X_OK) == 0) return true;
  return false;
}

CheckResult check_cuda(const CudaInfo& cuda) {
  if (!cuda.unavailable_reason.empty())
    return {"CUDA",
            join(cuda.is_built ? cuda.runtime + (cuda.runtime.empty() ? "" : "; ") : "", cuda.unavailable_reason), ""};
  std::string gpus;
  for (std::size_t i = 0; i < cuda.gpus.size(); ++i) gpus += join("; cuda:", i, " ", cuda.gpus[i]);
  return {
      "CUDA",
      join(cuda.runtime, cuda.is_emulated ? " on the CUDA emulation: no GPU, for tests; auto takes the CPU" : "", gpus),
      ""};
}

std::vector<CheckResult> run_checks(const CudaInfo& cuda) {
  const CpuFeatures cpu = cpu_features();
  std::vector<CheckResult> results;
  results.push_back(
      {"program", join("slipway ", SLIPWAY_VERSION, ", compiled by ", kCompiler, " for ", SLIPWAY_ARCH), ""});
  results.push_back(
      {"CPU", join(cpu.model, ", ", pluralize(available_cpus(), "logical CPU"), " for this process"), ""});
  results.push_back({"instructions",
                     join(cpu.avx2 ? "AVX2" : "none of AVX2 and above", cpu.avx512 ? ", AVX-512" : "",
                          cpu.avx512_bf16 ? ", AVX512_BF16" : "", cpu.amx_bf16 ? ", AMX" : "",
                          "; row ops and attention take ", cpu_backend().instructions, " (runtime.instructions)"),
                     ""});
  results.push_back({"matmuls",
                     join(gemm_library_version(), "; numerics.compute = auto takes ", cpu.native_bf16 ? "bf16" : "f32"),
                     ""});
  if (!matmuls_are_signal_safe())
    results.push_back(
        {"signals",
         "a signal handler that runs during a matmul damages the heap with oneDNN before 3.11.2 (its issue "
         "4845); train blocks signals in every thread, so profilers that work by timers get no samples "
         "(docs/machines.md)",
         ""});
  results.push_back(check_cuda(cuda));
  results.push_back({"checkpoints", hdf5_version(), ""});
  const bool has_mpirun = is_on_path("mpirun"), has_h5dump = is_on_path("h5dump");
  results.push_back({"ranks",
                     join(mpi_version(), has_mpirun ? "; mpirun is on PATH" : "; no mpirun on PATH: one rank only"),
                     has_mpirun ? "" : "launch/install-deps.sh"});
  results.push_back({"h5dump", has_h5dump ? "on PATH" : "not on PATH: only needed to look into checkpoints by hand",
                     has_h5dump ? "" : "apt install hdf5-tools"});
  results.push_back({"memory", human_bytes(static_cast<double>(available_memory_bytes())) + " available", ""});
  results.push_back({"disk here", human_bytes(static_cast<double>(free_bytes("."))) + " free", ""});
  return results;
}

}  // namespace

int command_doctor(const Arguments& arguments) {
  DoctorOptions options;
  Fields fields;
  fields.add(options);
  if (!read_arguments(fields, arguments, kDoctorUsage)) return 0;
  arguments.reject_positionals("doctor");
  const Backend& backend = backend_for(options.device);
  const CudaInfo& cuda = find_cuda();
  const std::vector<CheckResult> results = run_checks(cuda);
  if (options.json) {
    Json json = {{"schema", "slipway.doctor"},
                 {"schema_version", 1},
                 {"version", SLIPWAY_VERSION},
                 {"device", backend.device},
                 {"cuda_feature", cuda.is_built},
                 {"cuda_on_host_lanes", cuda.is_emulated},
                 {"cuda_runtime_available", cuda.unavailable_reason.empty()},
                 {"cuda_why_not", cuda.unavailable_reason},
                 {"visible_devices", cuda.gpus},
                 {"instruction_sets", instruction_sets()}};
    for (const CheckResult& result : results)
      json["findings"].push_back({{"what", result.topic}, {"found", result.description}, {"remedy", result.hint}});
    std::cout << to_line(json) << "\n";
    return 0;
  }
  for (const CheckResult& result : results) {
    std::cout << result.topic << std::string(14 - std::min<std::size_t>(13, result.topic.size()), ' ')
              << result.description << "\n";
    if (!result.hint.empty()) std::cout << "              -> " << result.hint << "\n";
  }
  std::cout << "\nA run would use: device " << backend.device << " (" << hardware_name(backend) << "), "
            << pluralize(available_cpus(), "CPU") << ", " << backend.gemm_library << " matmuls\n";
  return 0;
}

}  // namespace slipway
