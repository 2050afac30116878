// Failed writes as errors instead of signals.
#pragma once

namespace slipway {

/// Makes a write beyond a file-size limit (`ulimit -f`) fail with EFBIG, which is reported in one sentence and leaves
/// no temporary files, instead of SIGXFSZ, which would end the process. For all commands, before anything else.
void ignore_sigxfsz();

/// Makes a write to a closed pipe fail with EPIPE instead of SIGPIPE: for commands that write files, which must not be
/// lost when the reader of their log ends. Commands that only print keep SIGPIPE and end with their reader, as filters
/// do.
void ignore_sigpipe();

}  // namespace slipway
