// NPY version 1: a matrix of f32 as numpy.load reads it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>

namespace slipway {

using RowSink = std::function<void(std::span<const float>)>;

/// Writes a [rows, cols] matrix atomically, row by row as `produce_rows` adds them, so that it need not fit in memory.
/// Errors   Fault::kStorage when writing fails; Fault::kBug when the added rows are not [rows, cols].
void write_npy(const std::filesystem::path& path, std::int64_t rows, std::int64_t cols,
               const std::function<void(const RowSink& add_row)>& produce_rows);

}  // namespace slipway
