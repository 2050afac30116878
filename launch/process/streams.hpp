// Standard input, output and error, which the caller may have closed or redirected.
#pragma once

#include <string>

namespace slipway {

/// Opens /dev/null for each of the descriptors 0 to 2 that the caller has closed (`<&- >&- 2>&-`), so that no file that
/// is opened later gets that number and receives what is printed. Logs to a closed standard error are discarded. Using
/// a closed input or output fails, as in other programs. Call it before anything else opens a file.
void open_standard_streams();

/// Flushes standard output. Errors: Fault::kStorage, with the system's reason, when something could not be written.
void check_output();

/// Whether standard output and error are the same file, as with `2>&1 | tee log`.
bool stdout_is_stderr();

/// Reads all of standard input. Errors: Fault::kData when it cannot be read.
std::string read_stdin();

}  // namespace slipway
