#include "src/core/terminal.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

namespace slipway {
namespace {

constexpr int kUsualColumns = 80;

bool is_terminal() { return ::isatty(STDERR_FILENO) != 0; }

/// Bytes 10xxxxxx of UTF-8 go on with a character and take no column.
bool continues(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0x80; }

}  // namespace

bool can_redraw() {
  const char* const kind = std::getenv("TERM");
  return is_terminal() && (kind == nullptr || std::string_view(kind) != "dumb");
}

int terminal_columns() {
  if (const char* const text = std::getenv("COLUMNS")) {
    const std::string_view digits = text;
    int columns = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), columns);
    if (columns > 0) return columns;
  }
  if (!is_terminal()) return 0;
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kUsualColumns;
}

int redrawn_columns() {
  const int columns = terminal_columns();
  return columns == 0 ? 0 : std::max(1, columns - 1);
}

std::string_view fitted(std::string_view line, int columns) {
  if (columns <= 0) return line;
  int taken = 0;
  for (std::size_t at = 0; at < line.size(); ++at)
    if (!continues(line[at]) && taken++ == columns) return line.substr(0, at);
  return line;
}

}  // namespace slipway
