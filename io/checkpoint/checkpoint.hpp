// Checkpoints: sharded HDF5 folders that say what they are, that any layout of ranks can load.
//
// A checkpoint is a folder `step-00000100/` (docs/formats/checkpoint.md has every byte of it):
//
//   rank-<r>.<step>-<run>.h5   the slices of tensors that rank r held
//   index.h5                   every tensor whole, by virtual datasets over the rank files; for h5py and h5dump
//   manifest.json              what everything is, where it lies, and its hashes
//   manifest.sha256            the hash of the manifest's bytes
//
// It is written as `step-00000100.partial/`, made durable, read back, and only then renamed, so a crash at any byte
// leaves the previous checkpoint in force. Nothing here knows a model: tensors are names, shapes and numbers.
//
//   checkpoint_slice.hpp    rectangles of tensors, and how a flat range of a shard becomes rectangles
//   manifest.hpp            CheckpointInfo (everything but the numbers) and the manifest
//   checkpoint_writer.hpp   one rank's background save
//   checkpoint_reader.hpp   loading any rectangle, verifying, the provenance hash
//   checkpoint_folder.hpp   which checkpoints a run has, which one is meant, which are kept
//
// The save of all ranks together is src/train/checkpoint_saver.hpp.
#pragma once

#include "io/checkpoint/checkpoint_folder.hpp"  // IWYU pragma: export
#include "io/checkpoint/checkpoint_reader.hpp"  // IWYU pragma: export
#include "io/checkpoint/checkpoint_slice.hpp"   // IWYU pragma: export
#include "io/checkpoint/checkpoint_writer.hpp"  // IWYU pragma: export
#include "io/checkpoint/manifest.hpp"           // IWYU pragma: export
#include "io/hdf5.hpp"                          // IWYU pragma: export
