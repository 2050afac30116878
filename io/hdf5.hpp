// HDF5 without its types: the two shapes of file that a checkpoint consists of.
//
// HDF5 here lays out files and names what is in them; the numbers themselves are written and read by their byte
// offsets. So a full disk is met by our own system calls, whose reasons we can tell, and no damaged file is ever
// parsed by a library that may crash on it (docs/formats/checkpoint.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "io/checkpoint/manifest.hpp"

namespace slipway {

/// Starts the library: on the main thread, before MPI starts, so that HDF5 never calls MPI by itself. Its error prints
/// and its work at exit are switched off. Calling twice is harmless.
void open_hdf5();
std::string hdf5_version();  ///< "HDF5 1.10.8"

/// One dataset of a rank file: its path in the file, and its size per axis.
struct Hdf5Dataset {
  std::string path;                  ///< "/value/embedding.weight@0,0"
  std::vector<std::int64_t> extent;  ///< one or two axes
};

/// Creates a file with f32 datasets whose space is set aside and not yet written; the file has its final size.
/// Returns  the byte offset of each dataset's numbers.
/// Errors   Fault::kStorage with the system's reason.
std::vector<std::uint64_t> create_hdf5_slices(const std::filesystem::path& path, std::span<const Hdf5Dataset> datasets,
                                              std::int64_t step, const std::string& run_id);

/// Creates index.h5: one virtual dataset per tensor, `/<kind>/<name>`, over the slices in the sibling rank files.
/// What no file provides reads as NaN.
void create_hdf5_index(const std::filesystem::path& path, const Manifest& manifest);

}  // namespace slipway
