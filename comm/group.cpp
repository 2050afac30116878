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

bool power_of_two(int n) { return std::has_single_bit(static_cast<unsigned>(n)); }

/// The half of `range` that `rank` reduces when it exchanges with rank ^ distance: the higher rank reduces the upper
/// half.
Group::Range kept_half(Group::Range range, int rank, int distance) {
  const std::size_t half = range.count / 2;
  return {(rank & distance) != 0 ? range.first + half : range.first, half};
}

void check_pieces(std::size_t total, int size) {
  require(power_of_two(size), "reduce_scatter_sum: the number of ranks must be a power of two");
  require(total % static_cast<std::size_t>(size) == 0, "reduce_scatter_sum: the count must be a multiple of the ranks");
}

}  // namespace

Group& Group::on(const Backend& backend) {
  if (backend.memory == &space()) return *this;
  if (!device_group_) {
    const bool direct = nccl_available(*this, backend);
    if (reduction_ == Reduction::kLibrary && !direct && size() > 1)
      log::warn(
          "numerics.reduction = library has no effect: NCCL wants its library on every host and a GPU for each rank");
    device_group_ = direct ? make_nccl_group(*this, backend) : make_staged_group(*this, backend);
  }
  require(&device_group_->space() == backend.memory, "Group::on: the group has served another device's memory");
  return *device_group_;
}

template <class T>
T* Group::scratch(std::size_t count) {
  const AllocationTag taken(MemoryKind::kMessages, "what peers send");
  scratch_.reserve(count * sizeof(T), space());
  return reinterpret_cast<T*>(scratch_.data());
}

/// The chunk size in which a peer's data is received and reduced.
std::size_t Group::piece_bytes() const {
  constexpr std::size_t kInCache = std::size_t{1} << 20,  // when it is added
      kFillsALink = std::size_t{32} << 20;
  return space().is_host() ? kInCache : kFillsALink;
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
  if (!power_of_two(size()) || x.size_bytes() <= kGatherBytes) return all_reduce_by_gather(x);
  const std::size_t body = x.size() - x.size() % static_cast<std::size_t>(size());
  reduce_scatter_by_halving(x.first(body));
  all_gather_by_doubling(x.first(body));
  all_reduce_by_gather(x.subspan(body));
}

/// Every rank adds up everything: one message, any number of ranks.
template <class T>
void Group::all_reduce_by_gather(std::span<T> x) {
  const std::size_t piece = std::max<std::size_t>(1, piece_bytes() / sizeof(T) / static_cast<std::size_t>(size()));
  for (; !x.empty(); x = x.subspan(std::min(piece, x.size()))) {
    const std::size_t count = std::min(piece, x.size());
    T* leaves = scratch<T>(count * static_cast<std::size_t>(size()));
    all_gather(x.data(), count * sizeof(T), leaves);
    reduce_leaves(leaves, count, size());
    copy(x.data(), leaves, count * sizeof(T));
  }
}

template <class T>
Group::Range Group::reduce_scatter_by_halving(std::span<T> x) {
  const std::size_t piece = piece_bytes() / sizeof(T);
  Range mine{0, x.size()};
  for (int distance = 1; distance < size(); distance *= 2) {
    const int peer = rank() ^ distance;
    const Range keep = kept_half(mine, rank(), distance), give = kept_half(mine, peer, distance);
    T* arrived = scratch<T>(std::min(piece, keep.count));
    for (std::size_t done = 0; done < keep.count; done += piece) {
      const std::size_t count = std::min(piece, keep.count - done);
      send_recv(peer, &x[give.first + done], arrived, count * sizeof(T));
      add(&x[keep.first + done], arrived, count);
    }
    mine = keep;
  }
  return mine;
}

template <class T>
void Group::all_gather_by_doubling(std::span<T> x) {
  check_pieces(x.size(), size());
  const CollectiveScope call("all_gather_owned", world_rank(rank()));
  Range mine = shard_range(x.size(), rank(), size());
  for (int distance = size() / 2; distance >= 1; distance /= 2) {
    const bool upper = (rank() & distance) != 0;
    const std::size_t other = upper ? mine.first - mine.count : mine.first + mine.count;
    if (mine.count > 0) send_recv(rank() ^ distance, &x[mine.first], &x[other], mine.count * sizeof(T));
    mine = {std::min(mine.first, other), 2 * mine.count};
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
  check_pieces(x.size(), size());
  const CollectiveScope call("reduce_scatter_sum", world_rank(rank()));
  if (size() > 1 && library_all_reduce(x)) return shard_range(x.size(), rank(), size());
  return reduce_scatter_by_halving(x);
}

Group::Range Group::shard_range(std::size_t total, int rank, int size) {
  check_pieces(total, size);
  Range mine{0, total};
  for (int distance = 1; distance < size; distance *= 2) mine = kept_half(mine, rank, distance);
  return mine;
}

void Group::all_gather_shards(std::span<float> x) { all_gather_by_doubling(x); }
void Group::all_gather_shards(std::span<Bf16> x) { all_gather_by_doubling(x); }

bool Group::all_agree(bool good) {
  const CollectiveScope call("all_agree", world_rank(rank()));
  const std::uint8_t mine = good ? 1 : 0;
  std::uint8_t* all = scratch<std::uint8_t>(static_cast<std::size_t>(size()));
  all_gather(&mine, 1, all);
  return std::all_of(all, all + size(), [](std::uint8_t one) { return one == 1; });
}

std::vector<std::string> Group::all_gather_text(const std::string& mine) {
  const CollectiveScope call("all_gather_text", world_rank(rank()));
  const std::uint64_t length = mine.size();
  std::vector<std::uint64_t> lengths(static_cast<std::size_t>(size()));
  all_gather(&length, sizeof length, lengths.data());

  const std::size_t longest = *std::max_element(lengths.begin(), lengths.end());
  std::string padded = mine, all(longest * lengths.size(), '\0');
  padded.resize(longest);
  if (longest > 0) all_gather(padded.data(), longest, all.data());

  std::vector<std::string> texts;
  for (std::size_t r = 0; r < lengths.size(); ++r) texts.push_back(all.substr(r * longest, lengths[r]));
  return texts;
}

}  // namespace slipway
