// A shape-only backend (meta device): counts what a step would compute and allocate, for a model of any size.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend/backend.hpp"
#include "kernels/instrument/meta_memory.hpp"
#include "src/core/profile.hpp"

namespace slipway {

/// What ops were asked for since the last reset_counts().
struct Counts {
  struct Row {
    std::int64_t calls = 0;
    profile::Cost cost;
  };
  std::map<std::pair<std::string, DType>, Row> rows;  ///< by name_of the op, and the type that its products multiply
};

/// A backend whose ops only count, on a device or on a host: a host has other tiles of logits and reads batches where
/// they are, a device's ops have workspaces. There is one of each per process, for one thread at a time.
const Backend& meta_backend(bool on_host);
/// The memory of that backend.
MetaMemory& meta_memory(bool on_host);
/// Frees the workspaces of its ops, and counts the peak from now.
void reset_meta_memory(bool on_host);

const Counts& counts();
/// Products since the last reset_counts() that go by a library, one of each shape.
std::vector<MatMul> counted_gemms();
void reset_counts();

}  // namespace slipway
