#include "src/core/terminal.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

namespace slipway {
namespace {

constexpr int kDefaultColumns = 80;

bool is_terminal() { return ::isatty(STDERR_FILENO) != 0; }

/// Bytes 10xxxxxx of UTF-8 go on with a character and take no column.
bool is_continuation(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0x80; }

/// Of the character at the beginning of `text`, which is not empty; 0 where no UTF-8 character stands.
std::size_t character_bytes(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  const std::size_t bytes = first < 0x80   ? 1
                            : first < 0xc2 ? 0
                            : first < 0xe0 ? 2
                            : first < 0xf0 ? 3
                            : first < 0xf5 ? 4
                                           : 0;
  if (bytes > text.size()) return 0;
  for (std::size_t i = 1; i < bytes; ++i)
    if (!is_continuation(text[i])) return 0;
  const std::string_view character = text.substr(0, bytes);
  const bool overlong = character < "\xe0\xa0" ? bytes == 3 : character < "\xf0\x90" && bytes == 4;
  const bool surrogate = bytes == 3 && character >= "\xed\xa0" && first == 0xed;
  const bool too_large = bytes == 4 && character >= "\xf4\x90";
  return overlong || surrogate || too_large ? 0 : bytes;
}

/// Control characters: C0 but for line ends and tabs, DEL, C1, and those that turn the direction of writing.
bool is_control_character(std::string_view character) {
  const auto in_range = [&](std::string_view first, std::string_view last) {
    return character.size() == first.size() && first <= character && character <= last;
  };
  if (character == "\n" || character == "\t") return false;
  return character.size() == 1 ? static_cast<unsigned char>(character[0]) < ' ' || character == "\x7f"
                               : in_range("\xc2\x80", "\xc2\x9f") || in_range("\xe2\x80\xaa", "\xe2\x80\xae") ||
                                     in_range("\xe2\x81\xa6", "\xe2\x81\xa9");
}

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
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kDefaultColumns;
}

int redrawn_columns() {
  const int columns = terminal_columns();
  return columns == 0 ? 0 : std::max(1, columns - 1);
}

std::string_view clip_to_columns(std::string_view line, int columns) {
  if (columns <= 0) return line;
  int used_columns = 0;
  for (std::size_t offset = 0; offset < line.size(); ++offset)
    if (!is_continuation(line[offset]) && used_columns++ == columns) return line.substr(0, offset);
  return line;
}

std::string printable(std::string_view text) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string printable_text;
  while (!text.empty()) {
    const std::size_t bytes = character_bytes(text), num_bytes = std::max<std::size_t>(1, bytes);
    if (const std::string_view character = text.substr(0, num_bytes); bytes > 0 && !is_control_character(character)) {
      printable_text += character;
    } else {
      for (const char byte : character) {
        const auto value = static_cast<unsigned char>(byte);
        printable_text += {'\\', 'x', kDigits[value >> 4], kDigits[value & 15]};
      }
    }
    text.remove_prefix(num_bytes);
  }
  return printable_text;
}

}  // namespace slipway
