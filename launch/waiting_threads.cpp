#include "launch/waiting_threads.hpp"

#include <unistd.h>

#include <cstdlib>

namespace slipway {

void limit_spinning(char** words) {
#if defined(_OPENMP)
  constexpr char kSpins[] = "2000";  // of some 15 ns each
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  ::setenv("GOMP_SPINCOUNT", kSpins, 1);
  ::execv("/proc/self/exe", words);  // returns only where it failed: then threads spin as long as they did
#else
  static_cast<void>(words);
#endif
}

}  // namespace slipway
