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
    for (const Matrix<float>& part : parts) remaining_ += static_cast<std::size_t>(part.size());
  }
  std::size_t remaining() const { return remaining_; }

  /// Passes the next elements, at most kMessage, to `work(position in the message, elements)`.
  template <class Work>
  void next_message(Work work) {
    for (std::size_t offset = 0; offset < kMessage && remaining_ > 0;) {
      const Matrix<float> part = parts_.front();
      if (consumed_ == part.size()) {
        parts_ = parts_.subspan(1), consumed_ = 0;
        continue;
      }
      const std::int64_t row = consumed_ / part.cols, col = consumed_ % part.cols,
                         run_length = part.contiguous() ? part.size() - consumed_ : part.cols - col;
      const std::size_t count = std::min(kMessage - offset, static_cast<std::size_t>(run_length));
      work(offset, std::span(part.row(row) + col, count));
      offset += count, consumed_ += static_cast<std::int64_t>(count), remaining_ -= count;
    }
  }

 private:
  std::span<const Matrix<float>> parts_;
  std::int64_t consumed_ = 0;  // of the first part
  std::size_t remaining_ = 0;  // of all
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

/// Adds to `overlaps` the elements of `parameter` that lie in ranges of the arena, each as one row.
void add_overlaps(const Parameter& parameter, std::span<const Group::Range> ranges, std::span<float> arena,
                  std::vector<Matrix<float>>& overlaps) {
  for (const auto& [first, count] : ranges) {
    const std::size_t begin = std::max(parameter.offset, first),
                      end = std::min(parameter.offset + parameter.local_size(), first + count);
    if (begin >= end) continue;
    const int elements = static_cast<int>(end - begin);
    overlaps.push_back({arena.data() + begin, 1, elements, elements});
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
    const auto least_loaded = std::ranges::min_element(work);  // the first of equals
    *least_loaded += cost(i);
    owners[i] = static_cast<int>(least_loaded - work.begin());
  }
  return owners;
}

MatrixRedistribution::MatrixRedistribution(const Parameters& parameters, const Backend& backend, Mesh& mesh,
                                           const ArenaShards& shards)
    : backend_(backend),
      data_(mesh.data->for_backend(backend)),
      tensor_(mesh.tensor->for_backend(backend)),
      shards_(shards) {
  const std::span<const Parameter> all = parameters.all();
  const std::vector<int> owners = assign_matrices(all, data_.size() * tensor_.size());
  std::size_t gathered_size = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (owners[i] < 0) continue;
    const Parameter& p = all[i];
    if (data_.size() * tensor_.size() > 1) check_countable(p);
    MatrixPlacement placement{.parameter = &p,
                              .data_owner = owners[i] / tensor_.size(),
                              .tensor_owner = owners[i] % tensor_.size(),
                              .gathered_offset = gathered_size};
    if (tensor_.size() > 1 && p.shard != ShardAxis::kReplicated) {
      const Part local_part{p.first, p.count};
      placement.parts.resize(static_cast<std::size_t>(tensor_.size()));
      mesh.tensor->all_gather(&local_part, sizeof local_part, placement.parts.data());
      if (is_local(placement))
        gathered_size += Parameters::padded_size(static_cast<std::size_t>(p.rows) * static_cast<std::size_t>(p.cols));
    }
    placements_.push_back(std::move(placement));
  }
  const AllocationTag tag(MemoryKind::kOrthogonalization, "matrices that Muon gathers");
  gathered_ = Buffer<float>(gathered_size, *backend.memory);
  if (data_.size() * tensor_.size() == 1) return;
  send_buffer_ = Buffer<float>(kMessage, *backend.memory);
  receive_buffer_ = Buffer<float>(kMessage, *backend.memory);
}

bool MatrixRedistribution::is_local(const MatrixPlacement& placement) const {
  return placement.data_owner == data_.rank() && placement.tensor_owner == tensor_.rank();
}

void MatrixRedistribution::copy(Matrix<float> from, Matrix<float> to) { backend_.copy(stream_, {from, to}); }

/// This rank's shard of the matrix, without padding.
Matrix<float> MatrixRedistribution::local(const MatrixPlacement& placement, std::span<float> arena) const {
  const Parameter& p = *placement.parameter;
  return {arena.data() + p.offset, p.unpadded_rows(), p.unpadded_cols(), p.local_cols};
}

Matrix<float> MatrixRedistribution::gathered_part(const MatrixPlacement& placement, int tensor_rank) {
  const Parameter& p = *placement.parameter;
  const Matrix<float> whole{gathered_.data() + placement.gathered_offset, p.rows, p.cols, p.cols};
  const auto [first, count] = placement.parts[static_cast<std::size_t>(tensor_rank)];
  return p.shard == ShardAxis::kRows ? whole.view_rows(first, count) : whole.view_cols(first, count);
}

std::vector<Matrix<float>> MatrixRedistribution::gather(std::span<float> arena) {
  const profile::Scope scope("gather matrices");
  const AllocationTag tag(MemoryKind::kOrthogonalization, "matrices that Muon gathers");
  const ExchangePlan data = data_exchange_plan(arena), tensor = tensor_exchange_plan(arena, /*copies=*/false);
  exchange(data_, data.to, data.from);
  exchange(tensor_, tensor.to, tensor.from);
  std::vector<Matrix<float>> local_matrices;
  for (const MatrixPlacement& placement : placements_) {
    if (!is_local(placement)) continue;
    const Parameter& p = *placement.parameter;
    if (placement.parts.empty()) {
      local_matrices.push_back(local(placement, arena));
      continue;
    }
    copy(local(placement, arena), gathered_part(placement, tensor_.rank()));
    local_matrices.push_back({gathered_.data() + placement.gathered_offset, p.rows, p.cols, p.cols});
  }
  return local_matrices;
}

void MatrixRedistribution::scatter(std::span<float> arena) {
  const profile::Scope scope("scatter matrices");
  const AllocationTag tag(MemoryKind::kOrthogonalization, "matrices that Muon scatters");
  const ExchangePlan data = data_exchange_plan(arena), tensor = tensor_exchange_plan(arena, /*copies=*/true);
  for (const MatrixPlacement& placement : placements_)
    if (is_local(placement) && !placement.parts.empty())
      copy(gathered_part(placement, tensor_.rank()), local(placement, arena));
  exchange(tensor_, tensor.from, tensor.to);
  exchange(data_, data.from, data.to);
}

MatrixRedistribution::ExchangePlan MatrixRedistribution::data_exchange_plan(std::span<float> arena) const {
  const int ranks = data_.size();
  ExchangePlan plan(ranks);
  const std::vector<Group::Range> local_ranges = shards_.trainable(data_.rank());
  for (int peer = 0; peer < ranks; ++peer) {
    const auto peer_index = static_cast<std::size_t>(peer);
    const std::vector<Group::Range> peer_ranges = shards_.trainable(peer);
    for (const MatrixPlacement& placement : placements_) {
      if (placement.data_owner == peer) add_overlaps(*placement.parameter, local_ranges, arena, plan.to[peer_index]);
      if (placement.data_owner == data_.rank())
        add_overlaps(*placement.parameter, peer_ranges, arena, plan.from[peer_index]);
    }
  }
  return plan;
}

/// `include_replicated`: include matrices that are replicated over tensor ranks, whose owner sends its changed copy to
/// the others.
MatrixRedistribution::ExchangePlan MatrixRedistribution::tensor_exchange_plan(std::span<float> arena,
                                                                              bool include_replicated) {
  const int ranks = tensor_.size();
  ExchangePlan plan(ranks);
  for (int peer = 0; peer < ranks; ++peer) {
    const auto peer_index = static_cast<std::size_t>(peer);
    for (const MatrixPlacement& placement : placements_) {
      if (placement.data_owner != data_.rank() || (placement.parts.empty() && !include_replicated)) continue;
      if (placement.tensor_owner == peer) plan.to[peer_index].push_back(local(placement, arena));
      if (placement.tensor_owner == tensor_.rank())
        plan.from[peer_index].push_back(placement.parts.empty() ? local(placement, arena)
                                                                : gathered_part(placement, peer));
    }
  }
  return plan;
}

/// Pairwise exchange with every other rank: in round n, ranks r and n - r (modulo the group's size) exchange.
void MatrixRedistribution::exchange(Group& group, const std::vector<Matrices>& send,
                                    const std::vector<Matrices>& receive) {
  if (group.size() == 1) return;
  for (int round = 0; round < group.size(); ++round) {
    const int peer = (round - group.rank() + group.size()) % group.size();
    if (peer == group.rank()) continue;
    ChunkIterator from(send[static_cast<std::size_t>(peer)]), to(receive[static_cast<std::size_t>(peer)]);
    while (from.remaining() > 0 || to.remaining() > 0) {  // the same number of messages on both sides
      const std::size_t count = std::min(kMessage, std::max(from.remaining(), to.remaining()));
      MemorySpace& memory = *backend_.memory;
      from.next_message([&](std::size_t offset, std::span<float> chunk) {
        memory.copy(send_buffer_.data() + offset, chunk.data(), chunk.size_bytes());
      });
      group.send_recv(peer, send_buffer_.data(), receive_buffer_.data(), count * sizeof(float));
      to.next_message([&](std::size_t offset, std::span<float> chunk) {
        memory.copy(chunk.data(), receive_buffer_.data() + offset, chunk.size_bytes());
      });
    }
  }
}

}  // namespace slipway
