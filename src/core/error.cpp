#include "src/core/error.hpp"

#include <cerrno>
#include <system_error>

namespace slipway {

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

std::ostream& operator<<(std::ostream& out, const Where& where) {
  out << where.file.string();
  if (where.line > 0) out << ':' << where.line;
  return out;
}

std::string system_reason() { return std::generic_category().message(errno); }

}  // namespace slipway
