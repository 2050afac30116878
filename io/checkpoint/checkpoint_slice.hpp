// Rectangles of tensors: the part that a rank holds, the part that a load requests, and their overlap.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace slipway {

/// A rectangle of a whole tensor. Tensors have one or two axes; [n] counts as one row of n columns.
struct Slice {
  std::string tensor;
  std::string kind = "value";            ///< "value", or an optimizer moment: "adam_m", "adam_v", "muon_m"
  std::vector<std::int64_t> shape;       ///< of the whole tensor, without padding: [cols] or [rows, cols]
  std::array<std::int64_t, 2> offset{};  ///< first row and column, counted in the whole tensor
  std::array<std::int64_t, 2> extent{};  ///< rows and columns

  std::int64_t size() const { return extent[0] * extent[1]; }
  std::uint64_t bytes() const { return static_cast<std::uint64_t>(size()) * sizeof(float); }
};

/// A slice and the memory that holds its elements.
struct SliceView : Slice {
  const float* data = nullptr;  ///< its first element
  std::int64_t stride = 0;      ///< elements from one row to the next, at least extent[1]
};

/// Rows and columns of a shape of one or two axes. Errors: Fault::kBug for any other.
std::array<std::int64_t, 2> rows_cols(const std::vector<std::int64_t>& shape);

/// The slice that covers the whole tensor.
Slice full_slice(std::string tensor, std::string kind, std::vector<std::int64_t> shape);

/// A rectangle in a tensor: offset and extent per axis.
struct Box {
  std::array<std::int64_t, 2> offset{}, extent{};
};
/// The intersection of two rectangles; nullopt when they do not overlap.
std::optional<Box> intersect(const Box& a, const Box& b);
inline Box box(const Slice& slice) { return {slice.offset, slice.extent}; }

/// The part of a tensor that a rank holds in memory, row-major and contiguous, padded at the end of each axis.
struct Shard {
  std::string tensor;
  std::string kind = "value";
  std::vector<std::int64_t> shape;            ///< of the whole tensor, without padding
  std::array<std::int64_t, 2> offset{};       ///< of local element (0, 0) in the whole tensor
  std::array<std::int64_t, 2> local_shape{};  ///< local rows and columns, padding included
};

/// A slice that starts `start` elements after the first element of the range it was cut from.
struct Rectangle : Slice {
  std::int64_t start = 0;
  std::int64_t stride = 0;  ///< local columns

  SliceView view(const float* range) const { return {*this, range + start, stride}; }
};

/// Cuts the elements [first, last) of a shard, counted row-major, into at most three rectangles: the rest of a row,
/// whole rows, the start of a row. Padding (elements beyond `shape`) is left out, so the result may be empty.
///
///   for (const Rectangle& piece : rectangles(shard, first, last)) slices.push_back(piece.view(moments_of_range));
///   for (const Rectangle& piece : rectangles(shard, first, last)) reader.read(piece, moments_of_range + piece.start,
///   piece.stride);
std::vector<Rectangle> rectangles(const Shard& shard, std::int64_t first, std::int64_t last);

}  // namespace slipway
