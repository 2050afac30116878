#include "src/infer/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "src/core/error.hpp"

namespace slipway {

void SamplingConfig::check() const {
  if (!(temperature >= 0) || !std::isfinite(temperature))
    throw Error(Fault::kConfig, join("--temperature is ", temperature,
                                     ", but a number of at least 0 is expected; 0 takes the likeliest token"));
  if (top_k < 0)
    throw Error(Fault::kConfig, join("--top_k is ", top_k, ", but at least 0 is expected; 0 draws from all tokens"));
  if (!(top_p > 0 && top_p <= 1))
    throw Error(Fault::kConfig, join("--top_p is ", top_p, ", but a share above 0 and up to 1 is expected"));
}

Sampler::Sampler(const SamplingConfig& config, std::uint64_t sequence)
    : config_(config), random_(config.seed, stream_of("infer/sample") + sequence) {
  config_.check();
}

int Sampler::next(std::span<const float> logits_V, std::uint64_t position, TokenMask allowed) {
  require(allowed.empty() || allowed.size() == logits_V.size(),
          "Sampler::next: the mask and the logits have different vocabularies");
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  int likeliest = -1;
  for (std::size_t v = 0; v < logits_V.size(); ++v) {
    const float logit = logits_V[v];
    if (std::isnan(logit) || logit == kInfinity)
      throw Error(Fault::kNumeric, join("the logit of token ", v, " is ", logit, " at position ", position,
                                        "; the weights are damaged: run slipway qa"));
    if (!allowed.empty() && allowed[v] == 0) continue;
    if (likeliest < 0 || logit > logits_V[static_cast<std::size_t>(likeliest)]) likeliest = static_cast<int>(v);
  }
  require(likeliest >= 0, "Sampler::next: the mask allows no token");
  const float largest = logits_V[static_cast<std::size_t>(likeliest)];
  if (config_.temperature == 0 || config_.top_k == 1 || largest == -kInfinity) return likeliest;
  return draw(logits_V, largest, position, allowed);
}

/// Cost     O(V), and O(log V) for each token that is looked at.
int Sampler::draw(std::span<const float> logits_V, float largest, std::uint64_t position, TokenMask allowed) {
  ranking_.clear();
  double kept = 0;  // weight of the tokens that may be drawn
  for (std::size_t v = 0; v < logits_V.size(); ++v) {
    if (!allowed.empty() && allowed[v] == 0) continue;
    const double weight = std::exp(static_cast<double>(logits_V[v] - largest) / config_.temperature);
    ranking_.add({weight, static_cast<int>(v)});
    kept += weight;
  }
  std::size_t count = ranking_.size();
  if (const auto top_k = static_cast<std::size_t>(config_.top_k); top_k > 0 && top_k < count) {
    count = top_k;
    kept = 0;
    for (std::size_t k = 0; k < count; ++k) kept += ranking_.at(k).weight;
  }
  if (config_.top_p < 1) {
    const double wanted = config_.top_p * kept;
    std::size_t k = 0;
    for (kept = 0; k < count && kept < wanted; ++k) kept += ranking_.at(k).weight;
    count = k;
  }
  const double u = random_.uniform(position);
  double passed = 0;
  for (std::size_t k = 0; k < count; ++k) {
    passed += ranking_.at(k).weight;
    if (passed > u * kept) return ranking_.at(k).id;
  }
  return ranking_.at(count - 1).id;  // rounding left the sum a hair below `kept`
}

void Sampler::Ranking::clear() {
  heap_.clear();
  sorted_ = 0;
}

const Sampler::Candidate& Sampler::Ranking::at(std::size_t k) {
  const auto later = [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight < b.weight : a.id > b.id;
  };
  if (sorted_ == 0) std::make_heap(heap_.begin(), heap_.end(), later);
  while (sorted_ <= k) std::pop_heap(heap_.begin(), heap_.end() - static_cast<std::ptrdiff_t>(sorted_++), later);
  return heap_[heap_.size() - 1 - k];
}

}  // namespace slipway
