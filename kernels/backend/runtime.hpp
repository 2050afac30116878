// What a run computes with: a device, its instruction set and a number of threads, owned by whoever opened it.
#pragma once

#include <string>

#include "kernels/backend/backend.hpp"

namespace slipway {

struct RuntimeOptions {
  std::string device = "cpu";         ///< as backend_for takes it
  int local_rank = 0;                 ///< of this process on its host: which GPU "cuda" is
  std::string instructions = "auto";  ///< of a CPU, as cpu_backend takes them
  int threads = 0;                    ///< that each op may use on a CPU; 0: the CPUs of this process
};

/// Owns a backend. Several runtimes may live in one process, each with a device and threads of its own: what one of
/// them computes does not depend on the others. The one thing that they share is the limit of oneDNN's instruction
/// set, which a process can set once: the first runtime sets it.
///
/// Errors   those of backend_for; Fault::kConfig for other instructions than those of the process's first runtime.
class Runtime {
 public:
  explicit Runtime(const RuntimeOptions& options);

  /// Lives as long as the runtime. Model code keeps a reference to it.
  const Backend& backend() const { return backend_; }
  int threads() const { return backend_.threads; }

 private:
  Backend backend_;
};

}  // namespace slipway
