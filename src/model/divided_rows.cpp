#include "src/model/divided_rows.hpp"

#include <bit>

namespace slipway {
namespace {

std::size_t elements(std::int64_t count) { return static_cast<std::size_t>(count); }

}  // namespace

std::int64_t DividedRows::own_of(std::int64_t rows, int ranks) {
  const bool divides = rows % ranks == 0 && std::has_single_bit(static_cast<unsigned>(ranks));
  return divides ? rows / ranks : rows;
}

DividedRows::DividedRows(Group& tensor, int rows)
    : tensor_(tensor), rows_(rows), own_(static_cast<int>(own_of(rows, tensor.size()))) {
  constexpr int kLeastRows = 128;  // of a part: fewer fill no GPU
  const int ranks = tensor.size();
  const bool halves = ranks > 1 && tensor.only_queues() && rows >= 2 * kLeastRows && rows % (2 * ranks) == 0;
  const int parts = halves ? 2 : 1, count = rows / parts, own = own_ / parts;
  for (int part = 0; part < parts; ++part) {
    const int first = part * count;
    const std::size_t at = divided() ? Group::owned_range(elements(count), tensor.rank(), ranks).first : 0;
    parts_.push_back({first, count, first + static_cast<int>(at), part * own, own});
  }
}

void DividedRows::gather(const Part& part, const Activation& all) const {
  if (!divided()) return;
  const Activation rows = part.all(all);
  if (rows.dtype == DType::kBf16) tensor_.all_gather_owned(std::span(rows.row<Bf16>(0), elements(rows.size())));
  else tensor_.all_gather_owned(std::span(rows.row<float>(0), elements(rows.size())));
}

void DividedRows::sum(const Part& part, Matrix<float> all) const {
  const Matrix<float> rows = part.all(all);
  const std::span<float> numbers(rows.data, elements(rows.size()));
  if (divided()) tensor_.reduce_scatter_sum(numbers);
  else tensor_.all_reduce_sum(numbers);
}

}  // namespace slipway
