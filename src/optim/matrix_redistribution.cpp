#include "src/optim/matrix_redistribution.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "src/core/allocation_tag.hpp"
#include "src/core/profile.hpp"
#include "src/optim/newton_schulz.hpp"

namespace slipway {
namespace {

constexpr std::size_t kMessage = (1 << 20) / sizeof(float);  // elements per message

/// Iterates over the elements of several matrices as if they were one range, in chunks.
class ChunkIterator {
 public:
  explicit ChunkIterator(std::span<const Matrix<float>> parts) : parts_(parts) {
    for (const Matrix<float>& part : parts) left_ += static_cast<std::size_t>(part.size());
  }
  std::size_t left() const { return left_; }

  /// Passes the next elements, at most kMessage, to `work(position in the message, elements)`.
  template <class Work>
  void message(Work work) {
    for (std::size_t at = 0; at < kMessage && left_ > 0;) {
      const Matrix<float> part = parts_.front();
      if (done_ == part.size()) {
        parts_ = parts_.subspan(1), done_ = 0;
        continue;
      }
      const std::int64_t row = done_ / part.cols, col = done_ % part.cols,
                         together = part.contiguous() ? part.size() - done_ : part.cols - col;
      const std::size_t count = std::min(kMessage - at, static_cast<std::size_t>(together));
      work(at, std::span(part.row(row) + col, count));
      at += count, done_ += static_cast<std::int64_t>(count), left_ -= count;
    }
  }

 private:
  std::span<const Matrix<float>> parts_;
  std::int64_t done_ = 0;  // of the first part
  std::size_t left_ = 0;   // of all
};

/// Ranges of a matrix are counted as rows of one piece.
void check_countable(const Parameter& p) {
  constexpr std::size_t kMax = std::numeric_limits<int>::max();
  if (p.local_size() > kMax)
    throw Error(Fault::kConfig,
                join(p.name, " has ", p.local_size(), " elements on a rank, but Muon sends at most ", kMax,
                     " of a matrix to other ranks; lower model.width or model.ffn, raise "
                     "mesh.tensor, or set optim.name = adamw"));
}

/// Adds to `pieces` the elements of `parameter` that lie in ranges of the arena, each as one row.
void add_overlaps(const Parameter& parameter, std::span<const Group::Range> ranges, std::span<float> arena,
                  std::vector<Matrix<float>>& pieces) {
  for (const auto& [first, count] : ranges) {
    const std::size_t begin = std::max(parameter.offset, first),
                      end = std::min(parameter.offset + parameter.local_size(), first + count);
    if (begin >= end) continue;
    const int elements = static_cast<int>(end - begin);
    pieces.push_back({arena.data() + begin, 1, elements, elements});
  }
}

}  // namespace

bool is_hidden_matrix(const Parameter& parameter) {
  return !parameter.vector && parameter.component != "embedding" && parameter.component != "head";
}

std::vector<int> assign_matrices(std::span<const Parameter> parameters, int ranks) {
  std::vector<std::size_t> order(parameters.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::erase_if(order, [&](std::size_t i) { return !is_hidden_matrix(parameters[i]) || !parameters[i].trainable; });
  const auto cost = [&](std::size_t i) { return orthogonal_flops(parameters[i].rows, parameters[i].cols); };
  std::ranges::stable_sort(order, std::ranges::greater(), cost);

  std::vector<int> owners(parameters.size(), -1);
  std::vector<double> work(static_cast<std::size_t>(ranks), 0.0);
  for (const std::size_t i : order) {
    const auto least = std::ranges::min_element(work);  // the first of equals
    *least += cost(i);
    owners[i] = static_cast<int>(least - work.begin());
  }
  return owners;
}

MatrixRedistribution::MatrixRedistribution(const Parameters& parameters, const Backend& backend, Mesh& mesh,
                                           const ArenaShards& shards)
    : backend_(backend), data_(mesh.data->on(backend)), tensor_(mesh.tensor->on(backend)), shards_(shards) {
  const std::span<const Parameter> all = parameters.all();
  const std::vector<int> owners = assign_matrices(all, data_.size() * tensor_.size());
  std::size_t divided = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (owners[i] < 0) continue;
    const Parameter& p = all[i];
    if (data_.size() * tensor_.size() > 1) check_countable(p);
    MatrixPlacement hidden{.parameter = &p,
                           .data_owner = owners[i] / tensor_.size(),
                           .tensor_owner = owners[i] % tensor_.size(),
                           .gathered_offset = divided};
    if (tensor_.size() > 1 && p.shard != ShardAxis::kReplicated) {
      const Part mine{p.first, p.count};
      hidden.parts.resize(static_cast<std::size_t>(tensor_.size()));
      mesh.tensor->all_gather(&mine, sizeof mine, hidden.parts.data());
      if (is_local(hidden))
        divided += Parameters::padded_size(static_cast<std::size_t>(p.rows) * static_cast<std::size_t>(p.cols));
    }
    placements_.push_back(std::move(hidden));
  }
  const AllocationTag tag(MemoryKind::kOrthogonalization, "matrices that Muon gathers");
  gathered_ = Buffer<float>(divided, *backend.memory);
  if (data_.size() * tensor_.size() == 1) return;
  send_buffer_ = Buffer<float>(kMessage, *backend.memory);
  receive_buffer_ = Buffer<float>(kMessage, *backend.memory);
}

bool MatrixRedistribution::is_local(const MatrixPlacement& hidden) const {
  return hidden.data_owner == data_.rank() && hidden.tensor_owner == tensor_.rank();
}

void MatrixRedistribution::copy(Matrix<float> from, Matrix<float> to) { backend_.copy(stream_, {from, to}); }

/// This rank's shard of the matrix, without padding.
Matrix<float> MatrixRedistribution::local(const MatrixPlacement& hidden, std::span<float> arena) const {
  const Parameter& p = *hidden.parameter;
  return {arena.data() + p.offset, p.unpadded_rows(), p.unpadded_cols(), p.local_cols};
}

Matrix<float> MatrixRedistribution::gathered_part(const MatrixPlacement& hidden, int tensor_rank) {
  const Parameter& p = *hidden.parameter;
  const Matrix<float> whole{gathered_.data() + hidden.gathered_offset, p.rows, p.cols, p.cols};
  const auto [first, count] = hidden.parts[static_cast<std::size_t>(tensor_rank)];
  return p.shard == ShardAxis::kRows ? whole.view_rows(first, count) : whole.view_cols(first, count);
}

std::vector<Matrix<float>> MatrixRedistribution::gather(std::span<float> arena) {
  const profile::Scope scope("gather matrices");
  const AllocationTag tag(MemoryKind::kOrthogonalization, "matrices that Muon gathers");
  const ExchangePlan data = data_exchange_plan(arena), tensor = tensor_exchange_plan(arena, /*copies=*/false);
  exchange(data_, data.to, data.from);
  exchange(tensor_, tensor.to, tensor.from);
  std::vector<Matrix<float>> mine;
  for (const MatrixPlacement& hidden : placements_) {
    if (!is_local(hidden)) continue;
    const Parameter& p = *hidden.parameter;
    if (hidden.parts.empty()) {
      mine.push_back(local(hidden, arena));
      continue;
    }
    copy(local(hidden, arena), gathered_part(hidden, tensor_.rank()));
    mine.push_back({gathered_.data() + hidden.gathered_offset, p.rows, p.cols, p.cols});
  }
  return mine;
}

void MatrixRedistribution::scatter(std::span<float> arena) {
  const profile::Scope scope("scatter matrices");
  const AllocationTag tag(MemoryKind::kOrthogonalization, "matrices that Muon scatters");
  const ExchangePlan data = data_exchange_plan(arena), tensor = tensor_exchange_plan(arena, /*copies=*/true);
  for (const MatrixPlacement& hidden : placements_)
    if (is_local(hidden) && !hidden.parts.empty()) copy(gathered_part(hidden, tensor_.rank()), local(hidden, arena));
  exchange(tensor_, tensor.from, tensor.to);
  exchange(data_, data.from, data.to);
}

MatrixRedistribution::ExchangePlan MatrixRedistribution::data_exchange_plan(std::span<float> arena) const {
  const int ranks = data_.size();
  ExchangePlan route(ranks);
  const std::vector<Group::Range> mine = shards_.trainable(data_.rank());
  for (int peer = 0; peer < ranks; ++peer) {
    const auto at = static_cast<std::size_t>(peer);
    const std::vector<Group::Range> theirs = shards_.trainable(peer);
    for (const MatrixPlacement& hidden : placements_) {
      if (hidden.data_owner == peer) add_overlaps(*hidden.parameter, mine, arena, route.to[at]);
      if (hidden.data_owner == data_.rank()) add_overlaps(*hidden.parameter, theirs, arena, route.from[at]);
    }
  }
  return route;
}

/// `copies`: include matrices that are replicated over tensor ranks, whose owner sends its changed copy to the others.
MatrixRedistribution::ExchangePlan MatrixRedistribution::tensor_exchange_plan(std::span<float> arena, bool copies) {
  const int ranks = tensor_.size();
  ExchangePlan route(ranks);
  for (int peer = 0; peer < ranks; ++peer) {
    const auto at = static_cast<std::size_t>(peer);
    for (const MatrixPlacement& hidden : placements_) {
      if (hidden.data_owner != data_.rank() || (hidden.parts.empty() && !copies)) continue;
      if (hidden.tensor_owner == peer) route.to[at].push_back(local(hidden, arena));
      if (hidden.tensor_owner == tensor_.rank())
        route.from[at].push_back(hidden.parts.empty() ? local(hidden, arena) : gathered_part(hidden, peer));
    }
  }
  return route;
}

/// Pairwise exchange with every other rank: in round n, ranks r and n - r (modulo the group's size) exchange.
void MatrixRedistribution::exchange(Group& group, const std::vector<Pieces>& send, const std::vector<Pieces>& receive) {
  if (group.size() == 1) return;
  for (int round = 0; round < group.size(); ++round) {
    const int peer = (round - group.rank() + group.size()) % group.size();
    if (peer == group.rank()) continue;
    ChunkIterator from(send[static_cast<std::size_t>(peer)]), to(receive[static_cast<std::size_t>(peer)]);
    while (from.left() > 0 || to.left() > 0) {  // the same number of messages on both sides
      const std::size_t count = std::min(kMessage, std::max(from.left(), to.left()));
      MemorySpace& memory = *backend_.memory;
      from.message([&](std::size_t at, std::span<float> part) {
        memory.copy(send_buffer_.data() + at, part.data(), part.size_bytes());
      });
      group.send_recv(peer, send_buffer_.data(), receive_buffer_.data(), count * sizeof(float));
      to.message([&](std::size_t at, std::span<float> part) {
        memory.copy(part.data(), receive_buffer_.data() + at, part.size_bytes());
      });
    }
  }
}

}  // namespace slipway
