// Standard input, output and error, whatever the caller has made of them.
#pragma once

#include <string>

namespace slipway {

/// Opens those of the descriptors 0 to 2 that the caller has closed (`<&- >&- 2>&-`) on /dev/null, so that no file that
/// is opened later takes their number and with it what is printed. A closed standard error swallows what is logged. A
/// closed input or output fails when it is used, as in other programs: a result that nobody got is no success.
/// Must run before anything else opens a file.
void open_standard_streams();

/// Errors   Fault::kStorage, with the system's reason, when something could not be written to standard output.
void check_output();

/// Whether standard output and error end in the same file, as with `2>&1 | tee log`.
bool streams_are_one();

/// Everything on standard input. Errors: Fault::kData when it cannot be read.
std::string read_input();

}  // namespace slipway
