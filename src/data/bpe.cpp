#include "src/data/bpe.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <queue>
#include <utility>

namespace slipway {
namespace {

// Up to this length a scan of all pairs for the best one is faster than a heap (measured on English and source code).
constexpr std::size_t kShortBytes = 48;
constexpr int kNoRank = std::numeric_limits<int>::max();  // the rank of a pair that does not merge

}  // namespace

BpeMerges::BpeMerges(std::array<int, 256> id_of_byte, std::vector<Merge> merges)
    : id_of_byte_(id_of_byte),
      has_missing_bytes_(std::ranges::find(id_of_byte, kNoId) != id_of_byte.end()),
      merges_(std::move(merges)),
      ranks_(merges_.size()) {
  // Of duplicate pairs the first rank wins, as in llama.cpp.
  for (std::size_t rank = 0; rank < merges_.size(); ++rank)
    ranks_.find_or_insert(merges_[rank].left, merges_[rank].right, static_cast<int>(rank));
}

std::size_t BpeMerges::encode(std::string_view pre_token, int* ids) const {
  for (std::size_t i = 0; i < pre_token.size(); ++i) ids[i] = id_of_byte_[static_cast<std::uint8_t>(pre_token[i])];
  const std::size_t count =
      pre_token.size() <= kShortBytes ? merge_short(ids, pre_token.size()) : merge_long(ids, pre_token.size());
  return has_missing_bytes_ ? static_cast<std::size_t>(std::remove(ids, ids + count, kNoId) - ids) : count;
}

std::size_t BpeMerges::merge_short(int* ids, std::size_t count) const {
  const auto rank_at = [&](std::size_t i) {  // of the pair (i, i + 1)
    const int rank = ranks_.find(ids[i], ids[i + 1]);
    return rank == PairTable::kNone ? kNoRank : rank;
  };
  std::array<int, kShortBytes> ranks;
  for (std::size_t i = 0; i + 1 < count; ++i) ranks[i] = rank_at(i);

  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i)
      if (ranks[i] < ranks[best]) best = i;
    if (ranks[best] == kNoRank) break;

    ids[best] = merges_[static_cast<std::size_t>(ranks[best])].result;
    --count;
    for (std::size_t i = best + 1; i < count; ++i) {
      ids[i] = ids[i + 1];
      ranks[i] = ranks[i + 1];
    }
    if (best + 1 < count) ranks[best] = rank_at(best);
    if (best > 0) ranks[best - 1] = rank_at(best - 1);
  }
  return count;
}

std::size_t BpeMerges::merge_long(int* ids, std::size_t bytes) const {
  // A linked list of the pre-token's symbols. A symbol that was merged into its left neighbour has id kGone.
  struct Node {
    int id, previous, next;
  };
  constexpr int kMerged = kNoId - 1, kNoNode = -1;
  const int count = static_cast<int>(bytes);
  std::vector<Node> nodes(bytes);
  const auto node = [&](int i) -> Node& { return nodes[static_cast<std::size_t>(i)]; };
  for (int i = 0; i < count; ++i) node(i) = {ids[i], i - 1, i + 1 < count ? i + 1 : kNoNode};

  using Candidate = std::pair<int, int>;  // rank, position of the left symbol: the smallest comes first
  std::vector<Candidate> candidates;
  const auto make_candidate = [&](int left) {
    const int rank =
        node(left).next == kNoNode ? PairTable::kNone : ranks_.find(node(left).id, node(node(left).next).id);
    return Candidate{rank == PairTable::kNone ? kNoRank : rank, left};
  };
  for (int i = 0; i < count; ++i)
    if (const Candidate found = make_candidate(i); found.first != kNoRank) candidates.push_back(found);
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue(std::greater<>(), std::move(candidates));

  while (!queue.empty()) {
    const auto [rank, left] = queue.top();
    queue.pop();
    if (node(left).id == kMerged || make_candidate(left).first != rank) continue;  // outdated by another merge
    Node& left_node = node(left);
    Node& right_node = node(left_node.next);
    left_node.id = merges_[static_cast<std::size_t>(rank)].result;
    left_node.next = right_node.next;
    right_node.id = kMerged;
    if (left_node.next != kNoNode) node(left_node.next).previous = left;
    for (const int changed : {left, left_node.previous})
      if (changed != kNoNode)
        if (const Candidate found = make_candidate(changed); found.first != kNoRank) queue.push(found);
  }

  std::size_t left = 0;
  for (int i = 0; i != kNoNode; i = node(i).next) ids[left++] = node(i).id;
  return left;
}

}  // namespace slipway
