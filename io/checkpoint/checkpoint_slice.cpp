#include "io/checkpoint/checkpoint_slice.hpp"

#include <algorithm>

#include "src/core/error.hpp"

namespace slipway {

std::array<std::int64_t, 2> rows_cols(const std::vector<std::int64_t>& shape) {
  if (shape.size() == 1) return {1, shape[0]};
  if (shape.size() == 2) return {shape[0], shape[1]};
  throw Error(Fault::kBug, join("a checkpoint holds tensors of one or two axes, not of ", shape.size()));
}

Slice full_slice(std::string tensor, std::string kind, std::vector<std::int64_t> shape) {
  const auto extent = rows_cols(shape);
  return {std::move(tensor), std::move(kind), std::move(shape), {0, 0}, extent};
}

std::optional<Box> intersect(const Box& a, const Box& b) {
  Box intersection;
  for (int axis = 0; axis < 2; ++axis) {
    const std::int64_t first = std::max(a.offset[axis], b.offset[axis]);
    const std::int64_t last = std::min(a.offset[axis] + a.extent[axis], b.offset[axis] + b.extent[axis]);
    if (first >= last) return std::nullopt;
    intersection.offset[axis] = first;
    intersection.extent[axis] = last - first;
  }
  return intersection;
}

std::vector<Rectangle> rectangles(const Shard& shard, std::int64_t first, std::int64_t last) {
  const std::int64_t rows = shard.local_shape[0], cols = shard.local_shape[1];
  require(0 <= first && first <= last && last <= rows * cols, "rectangles: the range leaves the shard");
  const auto global_shape = rows_cols(shard.shape);
  const Box unpadded{{0, 0}, {global_shape[0] - shard.offset[0], global_shape[1] - shard.offset[1]}};  // local

  std::vector<Rectangle> pieces;
  const auto add = [&](const Box& local_box) {
    const auto intersection = intersect(local_box, unpadded);
    if (!intersection) return;
    const auto [row, col] = intersection->offset;
    Rectangle piece;
    static_cast<Slice&>(piece) = {
        shard.tensor, shard.kind, shard.shape, {shard.offset[0] + row, shard.offset[1] + col}, intersection->extent};
    piece.start = row * cols + col - first;
    piece.stride = cols;
    pieces.push_back(std::move(piece));
  };

  std::int64_t position = first;
  if (position < last && position % cols != 0) {  // the rest of a row
    const std::int64_t end = std::min(last, (position / cols + 1) * cols);
    add({{position / cols, position % cols}, {1, end - position}});
    position = end;
  }
  if (const std::int64_t full_rows = (last - position) / (cols > 0 ? cols : 1); position < last && full_rows > 0) {
    add({{position / cols, 0}, {full_rows, cols}});
    position += full_rows * cols;
  }
  if (position < last) add({{position / cols, 0}, {1, last - position}});  // the start of a row
  return pieces;
}

}  // namespace slipway
