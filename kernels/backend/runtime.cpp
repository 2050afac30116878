#include "kernels/backend/runtime.hpp"

#include <mutex>

#include "kernels/backend/cpu_backend.hpp"
#include "kernels/backend/device.hpp"
#include "kernels/cpu/ops.hpp"
#include "src/core/cpus.hpp"

namespace slipway {
namespace {

/// Limits oneDNN for the whole process, as the first runtime asks for it.
void limit_onednn_isa([[maybe_unused]] const std::string& instructions) {
#if defined(SLIPWAY_ONEDNN)
  static std::mutex mutex;
  static std::string process_instructions;  // what the first runtime asked for
  const std::lock_guard lock(mutex);
  if (process_instructions.empty()) {
    if (instructions != "auto" && !cpu::limit_onednn(instructions))
      throw Error(Fault::kConfig,
                  join("runtime.instructions = ", instructions, " comes too late: oneDNN is in use with ",
                       cpu::onednn_instructions(), "; start another process for it"));
    process_instructions = instructions;
  }
  if (instructions != process_instructions)
    throw Error(Fault::kConfig,
                join("runtime.instructions = ", instructions, ", but this process has limited oneDNN to ",
                     process_instructions, ", which it can do once: use the same, or start another process"));
#endif
}

}  // namespace

Runtime::Runtime(const RuntimeOptions& options)
    : backend_(backend_for(options.device, options.local_rank, options.instructions)) {
  limit_onednn_isa(options.instructions);
  check_thread_count(options.threads);
  backend_.threads = options.threads > 0 ? options.threads : available_cpus();
}

}  // namespace slipway
