// Running the program's readers on mutated files: what may come of it, in which time, and within how much memory.
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

/// What reads them: a sentence's name, and a call as the program makes it.
struct Reader {
  std::string name;
  std::function<void(const std::filesystem::path& folder)> read;
};

/// A kind of files, how they are mutated, and who reads them.
struct Format {
  std::string name;
  std::function<Files(Draws&)> good;  ///< one of several good sets; always the same objects for the same choice
  std::function<void(Files&, Draws&)> mutate;
  std::vector<Reader> readers;
  std::set<Fault> also_allowed = {};   ///< beside config, data, storage and numeric
  int share = 1;                       ///< one case for so many of the others': where one takes longer
  std::uint64_t bytes_by_readers = 0;  ///< size of mutated files that the readers write themselves
  std::uint64_t bytes_described = 0;   ///< what a file may ask for by a few digits
};

/// Runs the cases that the environment asks for (tests/support/fuzz.cpp); failures name format, seed and reader, and
/// the command that runs that case alone.
void run_mutations(const Format& format);

/// Every file below a folder.
Files files_of(const std::filesystem::path& folder);
/// Makes `folder` hold these files and nothing else.
void put_files(const std::filesystem::path& folder, const Files& files);

/// Memory that a reader may take: this many bytes for each of its files, and so many besides.
inline constexpr std::uint64_t kBytesPerByte = 32;
inline constexpr std::uint64_t kBytesBesides = std::uint64_t{16} << 20;

}  // namespace slipway::test
