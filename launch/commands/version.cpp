// slipway --version: what this program was built from. `slipway doctor` describes the machine.
#include <iostream>

#include "comm/world.hpp"
#include "io/hdf5.hpp"
#include "kernels/backend/cpu_backend.hpp"
#include "launch/commands/command.hpp"
#include "src/core/json.hpp"

namespace slipway {
namespace {

constexpr Usage kUsage{.summary = "Prints the version and what was built in. What this machine has: slipway doctor.",
                       .synopsis = "slipway --version [--json]",
                       .example = "slipway --version"};

struct VersionOptions {
  Flag json;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("json", self.json, "print one JSON object");
  }
};

/// launch/CMakeLists.txt defines SLIPWAY_BUILT_CUDA etc.; `missing_reason` says why a part is missing, or is empty.
std::string built_or_reason(const std::string& built, const std::string& missing_reason) {
  return missing_reason.empty() ? built : "not built in: " + missing_reason;
}

std::string openmp() {
#if defined(_OPENMP)
  return join("built in (", _OPENMP, ")");
#else
  return "not built in: SLIPWAY_OPENMP is off";
#endif
}

std::string sanitizers() { return SLIPWAY_BUILT_SANITIZE; }

}  // namespace

int command_version(const Arguments& arguments) {
  VersionOptions options;
  Fields fields;
  fields.add(options);
  if (!read_arguments(fields, arguments, kUsage)) return 0;
  const std::string onednn = gemm_library_version();
  Json json = {{"schema", "slipway.version"},
               {"schema_version", 1},
               {"version", SLIPWAY_VERSION},
               {"compiler", kCompiler},
               {"build_type", SLIPWAY_BUILT_TYPE + (sanitizers().empty() ? "" : " with sanitizers " + sanitizers())},
               {"architecture", SLIPWAY_ARCH},
               {"matmul", onednn.starts_with("oneDNN") ? onednn : onednn + "; not built in: SLIPWAY_ONEDNN is off"},
               {"openmp", openmp()},
               {"mpi", mpi_version()},
               {"hdf5", hdf5_version()},
               {"cuda", built_or_reason(SLIPWAY_BUILT_CUDA, SLIPWAY_MISSING_CUDA_REASON)},
               {"nccl", built_or_reason(SLIPWAY_BUILT_NCCL, SLIPWAY_MISSING_NCCL_REASON)}};
  if (options.json) {
    std::cout << to_line(json) << "\n";
    return 0;
  }
  std::cout << "slipway " << SLIPWAY_VERSION << "\n";
  for (const auto& [key, value] : json.items())
    if (!key.starts_with("schema") && key != "version")
      std::cout << "  " << key << std::string(14 - key.size(), ' ') << value.get<std::string>() << "\n";
  return 0;
}

}  // namespace slipway
