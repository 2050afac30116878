// Signals that stand for a failed write, as the errors that they are.
#pragma once

namespace slipway {

/// A file-size limit (`ulimit -f`) is EFBIG from now on, which is reported in one sentence and leaves no temporary
/// files, and not SIGXFSZ, which would end the process. For all commands, before anything else.
void ignore_sigxfsz();

/// A closed pipe behind standard output or error is an error of that write from now on, and not SIGPIPE: for commands
/// that write files, which must not be lost with the reader of their log. Commands that only print keep SIGPIPE and end
/// with their reader, as filters do.
void ignore_sigpipe();

}  // namespace slipway
