// Runs the program's readers on mutated files and checks outcome, time and memory.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "src/core/error.hpp"
#include "tests/support/mutate.hpp"

namespace slipway::test {

/// Files of one folder, by name: "data/manifest.json".
using Files = std::map<std::string, std::string>;

/// A reader of the files: a name for messages, and a call as the program makes it.
struct Reader {
  std::string name;
  std::function<void(const std::filesystem::path& folder)> read;
};

/// A file format: how its files are made and mutated, and their readers.
struct Format {
  std::string name;
  std::function<Files(FuzzRng&)> make_valid;  ///< one of several good sets; always the same objects for the same choice
  std::function<void(Files&, FuzzRng&)> mutate;
  std::vector<Reader> readers;
  std::set<Fault> allowed_faults = {};     ///< in addition to config, data, storage and numeric
  int case_divisor = 1;                    ///< divides the number of cases, for a format whose cases take longer
  std::uint64_t reader_written_bytes = 0;  ///< size of mutated files that the readers write themselves
  std::uint64_t declared_bytes = 0;        ///< memory that a small file may legitimately request
};

/// Runs the cases that the environment selects (tests/support/mutated_files.hpp); failures name format, seed and
/// reader, and the command that runs only that case.
void run_mutations(const Format& format);

/// Every file below a folder.
Files read_files(const std::filesystem::path& folder);
/// Makes `folder` hold these files and nothing else.
void write_files(const std::filesystem::path& folder, const Files& files);

/// Memory that a reader may use: kBytesPerByte bytes for each byte of its files, plus kFixedBytes.
inline constexpr std::uint64_t kBytesPerByte = 32;
inline constexpr std::uint64_t kFixedBytes = std::uint64_t{16} << 20;

}  // namespace slipway::test
