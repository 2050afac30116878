// A shape-only backend (meta device): counts what a step would compute and allocate, for a model of any size.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend/backend.hpp"
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

/// A backend whose ops only count. Its memory has addresses but no storage: a write of up to kKeptBytes can be read
/// back; other reads of up to that size return small values, and longer reads return nothing. There is one per process,
/// for one thread at a time.
const Backend& shape_only_backend();
constexpr std::size_t kKeptBytes = std::size_t{1} << 20;

const Counts& counts();
/// Products since the last reset_counts() that go by a library, one of each shape.
std::vector<MatMul> counted_gemms();
void reset_counts();
/// The most bytes of the backend'ss memory that were taken at once since the last reset_peak_bytes(): each piece
/// rounded up as cudaMalloc does it.
std::uint64_t counted_peak_bytes();
void reset_peak_bytes();

}  // namespace slipway
