#include "src/core/error.hpp"

#include <cerrno>
#include <system_error>
#include <utility>

namespace slipway {
namespace {

std::string escape_nul(std::string text) {
  for (std::size_t position = 0; (position = text.find('\0', position)) != std::string::npos;)
    text.replace(position, 1, "\\x00");
  return text;
}

}  // namespace

std::string_view name(Fault fault) {
  switch (fault) {
    case Fault::kConfig: return "config";
    case Fault::kData: return "data";
    case Fault::kStorage: return "storage";
    case Fault::kComm: return "comm";
    case Fault::kDevice: return "device";
    case Fault::kNumeric: return "numeric";
    case Fault::kGate: return "gate";
    case Fault::kBug: return "bug";
  }
  return "unknown";
}

Error::Error(Fault fault, std::string message) : std::runtime_error(escape_nul(std::move(message))), fault_(fault) {}

std::ostream& operator<<(std::ostream& out, const FileLocation& location) {
  out << location.file.string();
  if (location.line > 0) out << ':' << location.line;
  return out;
}

std::string errno_message() { return std::generic_category().message(errno); }

}  // namespace slipway
