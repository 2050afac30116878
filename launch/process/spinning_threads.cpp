#include "launch/process/spinning_threads.hpp"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace slipway {

void limit_spinning(char** words) {
#if defined(_OPENMP)
  constexpr char kSpins[] = "2000";  // of about 15 ns each
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  ::setenv("GOMP_SPINCOUNT", kSpins, 1);
  std::error_code unread;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", unread);
  ::execv(program.c_str(), words);   // by its path, so that the process keeps its name
  ::execv("/proc/self/exe", words);  // if the file was moved meanwhile; if this fails too, threads spin as by default
#else
  static_cast<void>(words);
#endif
}

}  // namespace slipway
