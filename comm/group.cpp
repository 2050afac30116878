// The collectives that are built from the four primitives: sums with one order, agreement, texts.
#include "comm/group.hpp"

#include <algorithm>
#include <bit>

#include "comm/host_staged_group.hpp"
#include "comm/nccl_group.hpp"
#include "comm/watchdog.hpp"
#include "kernels/backend/backend.hpp"
#include "src/core/allocation_tag.hpp"
#include "src/core/error.hpp"
#include "src/core/log.hpp"

namespace slipway {
namespace {

constexpr std::size_t kGatherBytes =
    16 << 10;  // up to here one gather is quicker than an exchange per level of the tree

template <class T>
void add_on_host(T* __restrict x, const T* __restrict y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) x[i] += y[i];
}

bool is_power_of_two(int n) { return std::has_single_bit(static_cast<unsigned>(n)); }

/// The half of `range` that `rank` reduces when it exchanges with rank ^ distance: the higher rank reduces the upper
/// half.
Group::Range local_half(Group::Range range, int rank, int distance) {
  const std::size_t half = range.count / 2;
  return {(rank & distance) != 0 ? range.first + half : range.first, half};
}

void check_divisible(std::size_t total, int size) {
  require(is_power_of_two(size), "reduce_scatter_sum: the number of ranks must be a power of two");
  require(total % static_cast<std::size_t>(size) == 0, "reduce_scatter_sum: the count must be a multiple of the ranks");
}

}  // namespace

Group& Group::for_backend(const Backend& backend) {
  if (backend.memory == &space()) return *this;
  if (!device_group_) {
    const bool use_nccl = nccl_available(*this, backend);
    if (reduction_ == Reduction::kLibrary && !use_nccl && size() > 1)
      log::warn(
          "numerics.reduction = library has no effect: NCCL wants its library on every host and a GPU for each rank");
    device_group_ = use_nccl ? make_nccl_group(*this, backend) : make_staged_group(*this, backend);
  }
  require(&device_group_->space() == backend.memory, "Group::on: the group has served another device's memory");
  return *device_group_;
}

template <class T>
T* Group::scratch(std::size_t count) {
  const AllocationTag tag(MemoryKind::kMessages, "what peers send");
  scratch_.reserve(count * sizeof(T), space());
  return reinterpret_cast<T*>(scratch_.data());
}

/// The chunk size in which a peer's data is received and reduced.
std::size_t Group::chunk_bytes() const {
  constexpr std::size_t kCacheChunk = std::size_t{1} << 20,  // when it is added
      kLinkChunk = std::size_t{32} << 20;
  return space().is_host() ? kCacheChunk : kLinkChunk;
}

void Group::add(float* x, const float* y, std::size_t count) { add_on_host(x, y, count); }

void Group::add(double* x, const double* y, std::size_t count) {
  require(space().is_host(), "Group: doubles are summed on the host");
  add_on_host(x, y, count);
}

void Group::add(std::int64_t* x, const std::int64_t* y, std::size_t count) {
  require(space().is_host(), "Group: integers are summed on the host");
  add_on_host(x, y, count);
}

/// Binary-tree reduction over `leaves` consecutive arrays: r with r^1, then r^2, then r^4. Missing leaves are skipped.
/// The result is in the first array.
template <class T>
void Group::reduce_leaves(T* x, std::size_t count, int leaves) {
  for (int distance = 1; distance < leaves; distance *= 2)
    for (int r = 0; r + distance < leaves; r += 2 * distance)
      add(x + static_cast<std::size_t>(r) * count, x + static_cast<std::size_t>(r + distance) * count, count);
}

template <class T>
void Group::tree_all_reduce(std::span<T> x) {
  if (!is_power_of_two(size()) || x.size_bytes() <= kGatherBytes) return all_reduce_by_gather(x);
  const std::size_t divisible_size = x.size() - x.size() % static_cast<std::size_t>(size());
  reduce_scatter_by_halving(x.first(divisible_size));
  all_gather_by_doubling(x.first(divisible_size));
  all_reduce_by_gather(x.subspan(divisible_size));
}

/// Every rank adds up everything: one message, any number of ranks.
template <class T>
void Group::all_reduce_by_gather(std::span<T> x) {
  const std::size_t chunk = std::max<std::size_t>(1, chunk_bytes() / sizeof(T) / static_cast<std::size_t>(size()));
  for (; !x.empty(); x = x.subspan(std::min(chunk, x.size()))) {
    const std::size_t count = std::min(chunk, x.size());
    T* leaves = scratch<T>(count * static_cast<std::size_t>(size()));
    all_gather(x.data(), count * sizeof(T), leaves);
    reduce_leaves(leaves, count, size());
    copy(x.data(), leaves, count * sizeof(T));
  }
}

template <class T>
Group::Range Group::reduce_scatter_by_halving(std::span<T> x) {
  const std::size_t chunk = chunk_bytes() / sizeof(T);
  Range range{0, x.size()};
  for (int distance = 1; distance < size(); distance *= 2) {
    const int peer = rank() ^ distance;
    const Range kept_range = local_half(range, rank(), distance), sent_range = local_half(range, peer, distance);
    T* received = scratch<T>(std::min(chunk, kept_range.count));
    for (std::size_t offset = 0; offset < kept_range.count; offset += chunk) {
      const std::size_t count = std::min(chunk, kept_range.count - offset);
      send_recv(peer, &x[sent_range.first + offset], received, count * sizeof(T));
      add(&x[kept_range.first + offset], received, count);
    }
    range = kept_range;
  }
  return range;
}

template <class T>
void Group::all_gather_by_doubling(std::span<T> x) {
  check_divisible(x.size(), size());
  const CollectiveScope call("all_gather_owned", world_rank(rank()));
  Range range = shard_range(x.size(), rank(), size());
  for (int distance = size() / 2; distance >= 1; distance /= 2) {
    const bool is_upper = (rank() & distance) != 0;
    const std::size_t peer_first = is_upper ? range.first - range.count : range.first + range.count;
    if (range.count > 0) send_recv(rank() ^ distance, &x[range.first], &x[peer_first], range.count * sizeof(T));
    range = {std::min(range.first, peer_first), 2 * range.count};
  }
}

void Group::all_reduce_sum(std::span<float> x) {
  if (size() == 1) return;
  const CollectiveScope call("all_reduce_sum", world_rank(rank()));
  if (!library_all_reduce(x)) tree_all_reduce(x);
}

void Group::all_reduce_sum(std::span<double> x) {
  if (size() == 1) return;
  const CollectiveScope call("all_reduce_sum", world_rank(rank()));
  tree_all_reduce(x);
}

double Group::all_reduce_max(double value) {
  const CollectiveScope call("all_reduce_max", world_rank(rank()));
  double* values = scratch<double>(static_cast<std::size_t>(size()));
  all_gather(&value, sizeof value, values);
  return *std::max_element(values, values + size());
}

std::int64_t Group::all_reduce_sum(std::int64_t value) {
  if (size() == 1) return value;
  const CollectiveScope call("all_reduce_sum", world_rank(rank()));
  all_reduce_by_gather(std::span(&value, 1));
  return value;
}

Group::Range Group::reduce_scatter_sum(std::span<float> x) {
  check_divisible(x.size(), size());
  const CollectiveScope call("reduce_scatter_sum", world_rank(rank()));
  if (size() > 1 && library_all_reduce(x)) return shard_range(x.size(), rank(), size());
  return reduce_scatter_by_halving(x);
}

Group::Range Group::shard_range(std::size_t total, int rank, int size) {
  check_divisible(total, size);
  Range range{0, total};
  for (int distance = 1; distance < size; distance *= 2) range = local_half(range, rank, distance);
  return range;
}

void Group::all_gather_shards(std::span<float> x) { all_gather_by_doubling(x); }
void Group::all_gather_shards(std::span<Bf16> x) { all_gather_by_doubling(x); }

bool Group::all_agree(bool value) {
  const CollectiveScope call("all_agree", world_rank(rank()));
  const std::uint8_t vote = value ? 1 : 0;
  std::uint8_t* votes = scratch<std::uint8_t>(static_cast<std::size_t>(size()));
  all_gather(&vote, 1, votes);
  return std::all_of(votes, votes + size(), [](std::uint8_t v) { return v == 1; });
}

std::vector<std::string> Group::all_gather_text(const std::string& text) {
  const CollectiveScope call("all_gather_text", world_rank(rank()));
  const std::uint64_t length = text.size();
  std::vector<std::uint64_t> lengths(static_cast<std::size_t>(size()));
  all_gather(&length, sizeof length, lengths.data());

  const std::size_t longest = *std::max_element(lengths.begin(), lengths.end());
  std::string padded = text, gathered(longest * lengths.size(), '\0');
  padded.resize(longest);
  if (longest > 0) all_gather(padded.data(), longest, gathered.data());

  std::vector<std::string> texts;
  for (std::size_t r = 0; r < lengths.size(); ++r) texts.push_back(gathered.substr(r * longest, lengths[r]));
  return texts;
}

}  // namespace slipway
