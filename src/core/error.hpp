// Errors: one sentence for the person who can act on it, and a class of errors that tells who that is.
#pragma once

#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace slipway {

/// Who can act on an error. The value is the program's exit status.
enum class Fault : int {
  kConfig = 2,   ///< the user's input: keys, values, impossible layouts, output folders that exist
  kData = 3,     ///< the data: texts, tokenizers, token shards
  kStorage = 4,  ///< checkpoints, model files, the disk
  kComm = 5,     ///< another rank is stuck or lost
  kDevice = 6,   ///< the requested device, or its memory, is not available
  kNumeric = 7,  ///< a value is not finite
  kGate = 8,     ///< a gate failed
  kBug = 9,      ///< a bug in Slipway
};

/// The word that stands in `slipway: error (<word>): ...`.
std::string_view name(Fault fault);

/// Joins anything that streams into one string: `join("step ", 7, ": loss ", 2.5)`. A NaN of either sign is "nan".
template <class... Parts>
std::string join(const Parts&... parts) {
  std::ostringstream text;
  const auto add = [&](const auto& part) {
    if constexpr (std::is_floating_point_v<std::remove_cvref_t<decltype(part)>>) {
      if (part != part) {
        text << "nan";
        return;
      }
    }
    text << part;
  };
  (add(parts), ...);
  return text.str();
}

/// A place in a file, as people write it: `path:line`, or the path alone while `line` is 0.
struct FileLocation {
  std::filesystem::path file;
  long line = 0;  ///< counted from 1; 0: the file as a whole
};
std::ostream& operator<<(std::ostream& out, const FileLocation& location);

/// The exception of library code. `what()` is one sentence: what was found, what was expected, what to do.
class Error : public std::runtime_error {
 public:
  /// A NUL, which would end what() early, is written as \x00.
  Error(Fault fault, std::string message);

  Fault fault() const { return fault_; }
  int exit_status() const { return static_cast<int>(fault_); }

 private:
  Fault fault_;
};

/// Throws Fault::kBug when `condition` is false: for invariants that only a bug can break.
inline void require(bool condition, std::string_view message) {
  if (!condition) throw Error(Fault::kBug, std::string(message));
}

/// The reason of the last failed system call, as text: "No space left on device".
std::string errno_message();

}  // namespace slipway
