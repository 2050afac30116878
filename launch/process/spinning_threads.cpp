#include "launch/process/spinning_threads.hpp"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace slipway {

void limit_spin_count(char** argv) {
#if defined(_OPENMP)
  constexpr char kSpinCount[] = "2000";  // of about 15 ns each
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  ::setenv("GOMP_SPINCOUNT", kSpinCount, 1);
  std::error_code ignored;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", ignored);
  ::execv(program.c_str(), argv);   // by its path, so that the process keeps its name
  ::execv("/proc/self/exe", argv);  // if the file was moved meanwhile; if this fails too, threads spin as by default
#else
  static_cast<void>(argv);
#endif
}

}  // namespace slipway
