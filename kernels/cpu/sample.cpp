#include "kernels/sample.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/checks.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/parallel.hpp"

namespace slipway::cpu {
namespace {

struct Candidate {
  double weight;
  int id;
};

/// Candidates in the order of the draw, sorted lazily, only as far as they are read.
class Ranking {
 public:
  void clear() { heap_.clear(), sorted_ = 0; }
  void add(Candidate candidate) { heap_.push_back(candidate); }  // before the first at()
  std::size_t size() const { return heap_.size(); }
  const Candidate& at(std::size_t k) {
    const auto ranks_lower = [](const Candidate& a, const Candidate& b) {
      return a.weight != b.weight ? a.weight < b.weight : a.id > b.id;
    };
    if (sorted_ == 0) std::make_heap(heap_.begin(), heap_.end(), ranks_lower);
    while (sorted_ <= k)
      std::pop_heap(heap_.begin(), heap_.end() - static_cast<std::ptrdiff_t>(sorted_++), ranks_lower);
    return heap_[heap_.size() - 1 - k];
  }

 private:
  std::vector<Candidate> heap_;  // its sorted part is at the end
  std::size_t sorted_ = 0;
};

int sample_random(const Sample& op, int b, float max_logit) {
  static thread_local Ranking thread_ranking;
  Ranking& ranking = thread_ranking;
  ranking.clear();
  const float* logit_V = op.logits_BV.row(b);
  const std::uint8_t* allowed_V = op.allowed(b);
  double kept_weight = 0;  // weight of the tokens that may be drawn
  for (int v = 0; v < op.logits_BV.cols; ++v) {
    if (allowed_V != nullptr && allowed_V[v] == 0) continue;
    const double weight = std::exp(static_cast<double>(logit_V[v] - max_logit) / op.temperature);
    ranking.add({weight, v});
    kept_weight += weight;
  }
  std::size_t count = ranking.size();
  if (const auto top_k = static_cast<std::size_t>(op.top_k); top_k > 0 && top_k < count) {
    count = top_k;
    kept_weight = 0;
    for (std::size_t k = 0; k < count; ++k) kept_weight += ranking.at(k).weight;
  }
  if (op.top_p < 1) {
    const double target_weight = op.top_p * kept_weight;
    std::size_t k = 0;
    for (kept_weight = 0; k < count && kept_weight < target_weight; ++k) kept_weight += ranking.at(k).weight;
    count = k;
  }
  double cumulative = 0;
  int last = 0;  // the result where rounding leaves the sum slightly below `kept_weight`
  for (std::size_t k = 0; k < count; ++k) {
    const Candidate& candidate = ranking.at(k);
    if (candidate.weight == 0) break;
    cumulative += candidate.weight;
    last = candidate.id;
    if (cumulative > op.uniform_B[b] * kept_weight) break;
  }
  return last;
}

int sample_row(const Sample& op, int b) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float* logit_V = op.logits_BV.row(b);
  const std::uint8_t* allowed_V = op.allowed(b);
  const int V = op.logits_BV.cols;
  int argmax = -1;
  float max_logit = -kInfinity;
  for (int v = 0; v < V; ++v) {
    const float logit = logit_V[v];
    if (!(logit < kInfinity)) return -1 - v;
    if (logit > max_logit || argmax < 0) {
      if (allowed_V != nullptr && allowed_V[v] == 0) continue;
      argmax = v, max_logit = logit;
    }
  }
  if (argmax < 0) return V;
  return op.is_random() && max_logit != -kInfinity ? sample_random(op, b, max_logit) : argmax;
}

}  // namespace

void sample(Stream& stream, const Sample& op) {
  check(op);
  for_each_row(stream, op.logits_BV.rows, op.logits_BV.cols, [&](int b) { op.id_B[b] = sample_row(op, b); });
}

}  // namespace slipway::cpu
