// Checkpoints: self-describing folders of sharded HDF5 files, which any layout of ranks can load.
//
// A checkpoint is a folder `step-00000100/` (docs/formats/checkpoint.md has every byte of it):
//
//   rank-<r>.<step>-<run>.h5   the slices of tensors that rank r held
//   index.h5                   every whole tensor as a virtual dataset over the rank files; for h5py and h5dump
//   manifest.json              every tensor and file: shapes, offsets and hashes; config, data and random state
//   manifest.sha256            the hash of the manifest's bytes
//
// It is written as `step-00000100.partial/`, synced to disk, read back, and only then renamed, so a crash at any byte
// leaves the previous checkpoint valid. This code is independent of the model: a tensor is a name, a shape and values.
//
//   checkpoint_slice.hpp    rectangles of tensors, and how a flat range of a shard becomes rectangles
//   manifest.hpp            CheckpointInfo (everything but the tensor values) and the manifest
//   checkpoint_writer.hpp   one rank's background save
//   checkpoint_reader.hpp   loads any rectangle, verifies, computes the provenance hash
//   checkpoint_folder.hpp   lists a run's checkpoints, selects one, prunes the old ones
//
// The save of all ranks together is src/train/checkpoint_saver.hpp.
#pragma once

#include "io/checkpoint/checkpoint_folder.hpp"  // IWYU pragma: export
#include "io/checkpoint/checkpoint_reader.hpp"  // IWYU pragma: export
#include "io/checkpoint/checkpoint_slice.hpp"   // IWYU pragma: export
#include "io/checkpoint/checkpoint_writer.hpp"  // IWYU pragma: export
#include "io/checkpoint/manifest.hpp"           // IWYU pragma: export
#include "io/hdf5.hpp"                          // IWYU pragma: export
