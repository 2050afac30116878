#include "launch/write_signals.hpp"

#include <signal.h>

namespace slipway {

void report_file_size_limit() { ::signal(SIGXFSZ, SIG_IGN); }

void keep_going_without_readers() { ::signal(SIGPIPE, SIG_IGN); }

}  // namespace slipway
