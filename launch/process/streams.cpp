#include "launch/process/streams.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <iostream>
#include <iterator>

#include "src/core/error.hpp"

namespace slipway {

void open_standard_streams() {
  // Input is opened for writing and output for reading, so that using them fails with EBADF, as on a closed descriptor.
  const int modes[] = {O_WRONLY, O_RDONLY, O_WRONLY};
  for (int descriptor = 0; descriptor < 3; ++descriptor)
    if (::fcntl(descriptor, F_GETFD) < 0 && errno == EBADF) ::open("/dev/null", modes[descriptor]);  // the lowest free
}

void check_output() {
  std::cout.flush();
  if (std::cout) return;
  // A later call may have changed errno: writing again sets it to the reason.
  const bool still_fails = ::write(STDOUT_FILENO, "\n", 1) < 0;
  throw Error(Fault::kStorage, join("cannot write standard output", still_fails ? ": " + errno_message() : "",
                                    "; what was printed is not complete"));
}

bool stdout_is_stderr() {
  struct stat output {
  }, error{};
  return ::fstat(STDOUT_FILENO, &output) == 0 && ::fstat(STDERR_FILENO, &error) == 0 && output.st_dev == error.st_dev &&
         output.st_ino == error.st_ino;
}

std::string read_stdin() {
  errno = 0;
  std::string text{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  if (std::ferror(stdin) != 0)
    throw Error(Fault::kData, join("cannot read standard input: ", errno_message(), "; name a file with --input FILE"));
  return text;
}

}  // namespace slipway
