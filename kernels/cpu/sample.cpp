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
    const auto later = [](const Candidate& a, const Candidate& b) {
      return a.weight != b.weight ? a.weight < b.weight : a.id > b.id;
    };
    if (sorted_ == 0) std::make_heap(heap_.begin(), heap_.end(), later);
    while (sorted_ <= k) std::pop_heap(heap_.begin(), heap_.end() - static_cast<std::ptrdiff_t>(sorted_++), later);
    return heap_[heap_.size() - 1 - k];
  }

 private:
  std::vector<Candidate> heap_;  // its sorted part is at the end
  std::size_t sorted_ = 0;
};

int draw(const Sample& op, int b, float largest) {
  static thread_local Ranking reused;
  Ranking& ranking = reused;
  ranking.clear();
  const float* logit_V = op.logits_BV.row(b);
  const std::uint8_t* allowed_V = op.allowed(b);
  double kept = 0;  // weight of the tokens that may be drawn
  for (int v = 0; v < op.logits_BV.cols; ++v) {
    if (allowed_V != nullptr && allowed_V[v] == 0) continue;
    const double weight = std::exp(static_cast<double>(logit_V[v] - largest) / op.temperature);
    ranking.add({weight, v});
    kept += weight;
  }
  std::size_t count = ranking.size();
  if (const auto top_k = static_cast<std::size_t>(op.top_k); top_k > 0 && top_k < count) {
    count = top_k;
    kept = 0;
    for (std::size_t k = 0; k < count; ++k) kept += ranking.at(k).weight;
  }
  if (op.top_p < 1) {
    const double wanted = op.top_p * kept;
    std::size_t k = 0;
    for (kept = 0; k < count && kept < wanted; ++k) kept += ranking.at(k).weight;
    count = k;
  }
  double cumulative = 0;
  int last = 0;  // the result where rounding leaves the sum slightly below `kept`
  for (std::size_t k = 0; k < count; ++k) {
    const Candidate& candidate = ranking.at(k);
    if (candidate.weight == 0) break;
    cumulative += candidate.weight;
    last = candidate.id;
    if (cumulative > op.uniform_B[b] * kept) break;
  }
  return last;
}

int token(const Sample& op, int b) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float* logit_V = op.logits_BV.row(b);
  const std::uint8_t* allowed_V = op.allowed(b);
  const int V = op.logits_BV.cols;
  int likeliest = -1;
  float largest = -kInfinity;
  for (int v = 0; v < V; ++v) {
    const float logit = logit_V[v];
    if (!(logit < kInfinity)) return -1 - v;
    if (logit > largest || likeliest < 0) {
      if (allowed_V != nullptr && allowed_V[v] == 0) continue;
      likeliest = v, largest = logit;
    }
  }
  if (likeliest < 0) return V;
  return op.is_random() && largest != -kInfinity ? draw(op, b, largest) : likeliest;
}

}  // namespace

void sample(Stream& stream, const Sample& op) {
  check(op);
  for_each_row(stream, op.logits_BV.rows, op.logits_BV.cols, [&](int b) { op.id_B[b] = token(op, b); });
}

}  // namespace slipway::cpu
