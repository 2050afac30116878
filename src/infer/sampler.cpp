#include "src/infer/sampler.hpp"

#include <algorithm>
#include <cmath>

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

TextTokenMask::TextTokenMask(const Tokenizer& tokenizer, int vocabulary) {
  text_mask_V_.resize(static_cast<std::size_t>(vocabulary));
  for (std::size_t id = 0; id < text_mask_V_.size(); ++id)
    text_mask_V_[id] = tokenizer.may_be_generated(static_cast<int>(id));
  if (std::ranges::find(text_mask_V_, 0) == text_mask_V_.end()) text_mask_V_.clear();
}

TokenMask TextTokenMask::restrict(TokenMask allowed) {
  if (text_mask_V_.empty()) return allowed;
  if (allowed.empty()) return text_mask_V_;
  require(allowed.size() == text_mask_V_.size(),
          "TextTokenMask::restrict: the mask and the logits have different vocabularies");
  combined_V_.assign(allowed.begin(), allowed.end());
  for (std::size_t id = 0; id < combined_V_.size(); ++id) combined_V_[id] &= text_mask_V_[id];
  return combined_V_;
}

Sampler::Sampler(const Backend& backend, const SamplingConfig& config, std::uint64_t first_sequence)
    : backend_(backend), config_(config), first_sequence_(first_sequence) {
  config_.check();
}

std::span<const int> Sampler::next(Matrix<const float> logits_BV, std::uint64_t position, TokenMask allowed) {
  const int B = logits_BV.rows, V = logits_BV.cols;
  require(allowed.empty() || allowed.size() == static_cast<std::size_t>(V),
          "Sampler::next: the mask and the logits have different vocabularies");
  MemorySpace& space = *backend_.memory;
  id_B_.resize(static_cast<std::size_t>(B));
  Sample op{.logits_BV = logits_BV,
            .allowed_BV = {allowed_device_.upload(allowed, space), 1, V, V},
            .temperature = config_.temperature,
            .top_k = config_.top_k,
            .top_p = config_.top_p,
            .id_B = ids_device_.buffer_for(id_B_, space)};
  if (op.is_random()) {
    uniform_B_.clear();
    for (int b = 0; b < B; ++b) {
      const std::uint64_t sequence = first_sequence_ + static_cast<std::uint64_t>(b);
      uniform_B_.push_back(Random(config_.seed, stream_of("infer/sample") + sequence).uniform(position));
    }
    op.uniform_B = uniform_device_.upload(uniform_B_, space);
  }
  backend_.sample(stream_, op);
  ids_device_.finish();
  for (int b = 0; b < B; ++b) {
    const int id = id_B_[static_cast<std::size_t>(b)];
    require(id < V, "Sampler::next: the mask allows no token");
    if (id >= 0) continue;
    const int v = -1 - id;
    float logit = 0;
    space.read(&logit, logits_BV.row(b) + v, sizeof logit);
    throw Error(Fault::kNumeric, join("the logit of token ", v, " is ", logit, " at position ", position,
                                      "; the weights are damaged: run slipway qa"));
  }
  return id_B_;
}

}  // namespace slipway
