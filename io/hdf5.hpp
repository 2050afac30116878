// Creates the two kinds of HDF5 file of which a checkpoint consists. HDF5's own types do not appear here.
//
// HDF5 only lays out the files and their metadata; tensor data is written and read with plain system calls at byte
// offsets. So a full disk is reported with the system's reason, and no damaged file is ever parsed by a library that
// may crash on it (docs/formats/checkpoint.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "io/checkpoint/manifest.hpp"

namespace slipway {

/// Initializes the library, without its error messages and its exit handler. Call on the main thread before MPI is
/// initialized, so that HDF5 never calls MPI by itself. Idempotent. Errors: Fault::kStorage.
void init_hdf5();
std::string hdf5_version();  ///< "HDF5 1.10.8"

/// One dataset of a rank file.
struct Hdf5Dataset {
  std::string path;                  ///< in the file: "/value/embedding.weight@0,0"
  std::vector<std::int64_t> extent;  ///< elements per axis; one or two axes
};

/// Creates a file with f32 datasets whose space is allocated and not yet written; the file has its final size.
/// Returns  the byte offset of each dataset's data.
/// Errors   Fault::kStorage with the system's reason.
std::vector<std::uint64_t> create_hdf5_slices(const std::filesystem::path& path, std::span<const Hdf5Dataset> datasets,
                                              std::int64_t step, const std::string& run_id);

/// Creates index.h5: one virtual dataset per tensor, `/<kind>/<name>`, over the slices in the sibling rank files.
/// Elements that no file provides read as NaN. Errors: Fault::kStorage with the system's reason.
void create_hdf5_index(const std::filesystem::path& path, const Manifest& manifest);

}  // namespace slipway
