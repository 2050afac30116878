#include "launch/process/write_failures.hpp"

#include <signal.h>

namespace slipway {

void ignore_sigxfsz() { ::signal(SIGXFSZ, SIG_IGN); }

void ignore_sigpipe() { ::signal(SIGPIPE, SIG_IGN); }

}  // namespace slipway
