#include "src/model/sequence_parallel.hpp"

#include <bit>

namespace slipway {
namespace {

std::size_t elements(std::int64_t count) { return static_cast<std::size_t>(count); }

}  // namespace

std::int64_t SequenceParallel::local_rows_of(std::int64_t rows, int ranks) {
  const bool is_divisible = rows % ranks == 0 && std::has_single_bit(static_cast<unsigned>(ranks));
  return is_divisible ? rows / ranks : rows;
}

SequenceParallel::SequenceParallel(Group& tensor, int rows)
    : tensor_(tensor), global_rows_(rows), local_rows_(static_cast<int>(local_rows_of(rows, tensor.size()))) {
  constexpr int kMinPartRows = 128;  // fewer do not fill a GPU
  const int ranks = tensor.size();
  const bool split_in_two = ranks > 1 && tensor.is_async() && rows >= 2 * kMinPartRows && rows % (2 * ranks) == 0;
  const int parts = split_in_two ? 2 : 1, count = rows / parts, local = local_rows_ / parts;
  for (int part = 0; part < parts; ++part) {
    const int first = part * count;
    const std::size_t shard_first = is_sharded() ? Group::shard_range(elements(count), tensor.rank(), ranks).first : 0;
    parts_.push_back({first, count, first + static_cast<int>(shard_first), part * local, local});
  }
}

void SequenceParallel::all_gather(const Part& part, const TensorView& rows) const {
  if (!is_sharded()) return;
  const TensorView view = part.global(rows);
  if (view.dtype == DType::kBf16) tensor_.all_gather_shards(std::span(view.row<Bf16>(0), elements(view.size())));
  else tensor_.all_gather_shards(std::span(view.row<float>(0), elements(view.size())));
}

void SequenceParallel::reduce_scatter(const Part& part, Matrix<float> rows) const {
  const Matrix<float> view = part.global(rows);
  const std::span<float> values(view.data, elements(view.size()));
  if (is_sharded()) tensor_.reduce_scatter_sum(values);
  else tensor_.all_reduce_sum(values);
}

}  // namespace slipway
