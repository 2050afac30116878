// The list of input files of a command, with folders expanded.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "src/core/config.hpp"
#include "src/data/input_tally.hpp"

namespace slipway {

/// The inputs: options of `tokenizer train` and `data prepare`.
struct TextInputs {
  std::vector<std::string> paths;     ///< files and folders
  std::string glob;                   ///< pattern on the names of files found in folders; empty takes all
  std::vector<std::string> excluded;  ///< files of the command itself, such as its tokenizer: never read as text

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("input", self.paths,
          {"files and folders: plain text, JSON lines or arrays of rows, and .gz or .zst of them", "PATH"});
    visit("glob", self.glob, {"in folders, read only files whose name matches, such as '*.py'", "PATTERN"});
  }
};

/// One file to read.
struct InputFile {
  std::filesystem::path path;  ///< to open it, as the user wrote it
  std::string name;            ///< below its input, without .gz or .zst: equal on every host and under any prefix
  std::uint64_t bytes = 0;     ///< on disk

  std::string name_on_disk() const;  ///< `name` with its .gz or .zst, for messages
};

/// The path without .gz or .zst, so that a compressed file sorts as the plain one would.
std::filesystem::path without_compression(const std::filesystem::path& path);

/// The result of listing the inputs.
struct InputList {
  std::vector<InputFile> files;
  InputTally skipped;  ///< bad input that is left out
  InputTally notices;  ///< what is not read, or read once, and is no fault
};

/// The files of the inputs, ordered by the bytes of their names (equal names: by the order of the inputs), so that
/// neither the file system nor a shell decides the order. A file that is reached twice, by two inputs or two hard
/// links, is read once. Links to folders are not followed; folders that slipway wrote (data folders, runs, what is
/// still being written) are not entered.
///
/// Bad input is a link that leads nowhere or to itself, a pipe, socket or device, and a folder that cannot be listed.
/// Errors   Fault::kData for a path that is missing, for Parquet (with the command that converts it), for bad input
///          unless `skip_bad`, and when nothing is left to read; Fault::kConfig when no input is given or
///          one is empty.
InputList list_inputs(const TextInputs& inputs, bool skip_bad = false);

/// The end of error messages about bad input: the hint.
inline constexpr char kBadInputRemedy[] = "; mend it, or leave such input out, counted, with --data.on_bad skip";

}  // namespace slipway
