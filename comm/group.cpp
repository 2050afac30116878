// The collectives that are built from the four primitives: sums with one order, agreement, texts.
#include "comm/group.hpp"

#include <algorithm>
#include <bit>

#include "comm/nccl_group.hpp"
#include "comm/staged_group.hpp"
#include "comm/watchdog.hpp"
#include "kernels/table.hpp"
#include "src/core/error.hpp"
#include "src/core/log.hpp"
#include "src/core/taken_for.hpp"

namespace slipway {
namespace {

constexpr std::size_t kGatherBytes =
    16 << 10;  // up to here one gather is quicker than an exchange per level of the tree

template <class T>
void add_on_host(T* __restrict x, const T* __restrict y, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) x[i] += y[i];
}

bool by_library = false;

bool power_of_two(int n) { return std::has_single_bit(static_cast<unsigned>(n)); }

/// The half of `range` that `rank` keeps when it meets rank ^ distance: the upper one keeps the upper half.
Group::Range kept_half(Group::Range range, int rank, int distance) {
  const std::size_t half = range.count / 2;
  return {(rank & distance) != 0 ? range.first + half : range.first, half};
}

void check_pieces(std::size_t total, int size) {
  require(power_of_two(size), "reduce_scatter_sum: the number of ranks must be a power of two");
  require(total % static_cast<std::size_t>(size) == 0, "reduce_scatter_sum: the count must be a multiple of the ranks");
}

}  // namespace

void set_library_sums(bool wanted) { by_library = wanted; }
bool library_sums() { return by_library; }

Group& Group::in(const KernelTable& kernels) {
  if (kernels.memory == &space()) return *this;
  if (!elsewhere_) {
    const bool direct = can_message(*this, kernels);
    if (library_sums() && !direct && size() > 1)
      log::warn(
          "numerics.reduction = library has no effect: NCCL wants its library on every host and a GPU for each rank");
    elsewhere_ = direct ? make_nccl_group(*this, kernels) : make_staged_group(*this, kernels);
  }
  require(&elsewhere_->space() == kernels.memory, "Group::in: the group has served another device's memory");
  return *elsewhere_;
}

template <class T>
T* Group::scratch(std::size_t count) {
  const TakenFor taken("what peers send");
  scratch_.fit(count * sizeof(T), space());
  return reinterpret_cast<T*>(scratch_.data());
}

/// How much of a peer's numbers travels at once on its way into a sum.
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

/// The binary tree over `leaves` arrays that lie one after the other: r joins r^1, then r^2, then r^4. Leaves beyond
/// the last are left out. The sum ends in the first array.
template <class T>
void Group::join_leaves(T* x, std::size_t count, int leaves) {
  for (int distance = 1; distance < leaves; distance *= 2)
    for (int r = 0; r + distance < leaves; r += 2 * distance)
      add(x + static_cast<std::size_t>(r) * count, x + static_cast<std::size_t>(r + distance) * count, count);
}

template <class T>
void Group::tree_sum(std::span<T> x) {
  if (!power_of_two(size()) || x.size_bytes() <= kGatherBytes) return tree_sum_by_gather(x);
  const std::size_t body = x.size() - x.size() % static_cast<std::size_t>(size());
  tree_sum_by_halving(x.first(body));
  gather_by_doubling(x.first(body));
  tree_sum_by_gather(x.subspan(body));
}

/// Every rank adds up everything: one message, any number of ranks.
template <class T>
void Group::tree_sum_by_gather(std::span<T> x) {
  const std::size_t piece = std::max<std::size_t>(1, piece_bytes() / sizeof(T) / static_cast<std::size_t>(size()));
  for (; !x.empty(); x = x.subspan(std::min(piece, x.size()))) {
    const std::size_t count = std::min(piece, x.size());
    T* leaves = scratch<T>(count * static_cast<std::size_t>(size()));
    all_gather(x.data(), count * sizeof(T), leaves);
    join_leaves(leaves, count, size());
    copy(x.data(), leaves, count * sizeof(T));
  }
}

template <class T>
Group::Range Group::tree_sum_by_halving(std::span<T> x) {
  const std::size_t piece = piece_bytes() / sizeof(T);
  Range mine{0, x.size()};
  for (int distance = 1; distance < size(); distance *= 2) {
    const int peer = rank() ^ distance;
    const Range keep = kept_half(mine, rank(), distance), give = kept_half(mine, peer, distance);
    T* arrived = scratch<T>(std::min(piece, keep.count));
    for (std::size_t done = 0; done < keep.count; done += piece) {
      const std::size_t count = std::min(piece, keep.count - done);
      exchange(peer, &x[give.first + done], arrived, count * sizeof(T));
      add(&x[keep.first + done], arrived, count);
    }
    mine = keep;
  }
  return mine;
}

template <class T>
void Group::gather_by_doubling(std::span<T> x) {
  check_pieces(x.size(), size());
  const Call call("all_gather_owned", world_rank(rank()));
  Range mine = owned_range(x.size(), rank(), size());
  for (int distance = size() / 2; distance >= 1; distance /= 2) {
    const bool upper = (rank() & distance) != 0;
    const std::size_t other = upper ? mine.first - mine.count : mine.first + mine.count;
    if (mine.count > 0) exchange(rank() ^ distance, &x[mine.first], &x[other], mine.count * sizeof(T));
    mine = {std::min(mine.first, other), 2 * mine.count};
  }
}

void Group::all_reduce_sum(std::span<float> x) {
  if (size() == 1) return;
  const Call call("all_reduce_sum", world_rank(rank()));
  if (!sum_by_library(x)) tree_sum(x);
}

void Group::all_reduce_sum(std::span<double> x) {
  if (size() == 1) return;
  const Call call("all_reduce_sum", world_rank(rank()));
  tree_sum(x);
}

double Group::all_reduce_max(double value) {
  const Call call("all_reduce_max", world_rank(rank()));
  double* values = scratch<double>(static_cast<std::size_t>(size()));
  all_gather(&value, sizeof value, values);
  return *std::max_element(values, values + size());
}

std::int64_t Group::all_reduce_sum(std::int64_t value) {
  if (size() == 1) return value;
  const Call call("all_reduce_sum", world_rank(rank()));
  tree_sum_by_gather(std::span(&value, 1));
  return value;
}

Group::Range Group::reduce_scatter_sum(std::span<float> x) {
  check_pieces(x.size(), size());
  const Call call("reduce_scatter_sum", world_rank(rank()));
  if (size() > 1 && sum_by_library(x)) return owned_range(x.size(), rank(), size());
  return tree_sum_by_halving(x);
}

Group::Range Group::owned_range(std::size_t total, int rank, int size) {
  check_pieces(total, size);
  Range mine{0, total};
  for (int distance = 1; distance < size; distance *= 2) mine = kept_half(mine, rank, distance);
  return mine;
}

void Group::all_gather_owned(std::span<float> x) { gather_by_doubling(x); }
void Group::all_gather_owned(std::span<Bf16> x) { gather_by_doubling(x); }

bool Group::all_agree(bool good) {
  const Call call("all_agree", world_rank(rank()));
  const std::uint8_t mine = good ? 1 : 0;
  std::uint8_t* all = scratch<std::uint8_t>(static_cast<std::size_t>(size()));
  all_gather(&mine, 1, all);
  return std::all_of(all, all + size(), [](std::uint8_t one) { return one == 1; });
}

std::vector<std::string> Group::all_gather_text(const std::string& mine) {
  const Call call("all_gather_text", world_rank(rank()));
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
