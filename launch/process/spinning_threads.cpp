#include "launch/process/spinning_threads.hpp"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace slipway {

void limit_spinning(char** words) {
#if defined(_OPENMP)
  constexpr char kSpins[] = "2000";  // of some 15 ns each
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  ::setenv("GOMP_SPINCOUNT", kSpins, 1);
  std::error_code unread;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", unread);
  ::execv(program.c_str(), words);   // by its path, which names the process
  ::execv("/proc/self/exe", words);  // it was moved meanwhile; returns only where that failed: then threads spin
#else
  static_cast<void>(words);
#endif
}

}  // namespace slipway
