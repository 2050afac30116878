// A kernel table that computes nothing: what a step would do, and the memory that it would take, of a model of any
// size.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kernels/table.hpp"
#include "src/core/profile.hpp"

namespace slipway {

/// What ops were asked for since the last restart_counts().
struct Counts {
  struct Row {
    std::int64_t calls = 0;
    profile::Cost cost;
  };
  std::map<std::pair<std::string, DType>, Row> rows;  ///< by name_of the op, and the type that its products multiply
};

/// Ops that only count. Their memory has addresses and no bytes: what is written to it in up to kKeptBytes is read
/// again, other reads of that length give small numbers, and longer ones nothing. One such table is in a process, for
/// one thread at a time.
const KernelTable& counted_kernels();
constexpr std::size_t kKeptBytes = std::size_t{1} << 20;

const Counts& counts();
/// Products since the last restart_counts() that go by a library, one of each shape.
std::vector<MatMul> counted_products();
void restart_counts();
/// The most bytes of the table's memory that were taken at once since the last restart_peak_bytes(): each piece rounded
/// up as cudaMalloc does it.
std::uint64_t counted_peak_bytes();
void restart_peak_bytes();

}  // namespace slipway
