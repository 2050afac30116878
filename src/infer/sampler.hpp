// From logits to the next token: the likeliest, or a drawn one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/core/config.hpp"
#include "src/core/random.hpp"

namespace slipway {

/// How tokens are drawn. Options `temperature`, `top_k`, `top_p`, `seed`.
struct SamplingConfig {
  double temperature = 0.8;
  int top_k = 0;
  double top_p = 0.95;
  std::uint64_t seed = 1;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("temperature", self.temperature, "divides the logits; 0: always the likeliest token", Change::kObserving);
    visit("top_k", self.top_k, "draw from that many of the likeliest tokens; 0: from all", Change::kObserving);
    visit("top_p", self.top_p, "draw from the fewest of the likeliest tokens that hold this probability; 1: from all",
          Change::kObserving);
    visit("seed", self.seed, "decides every draw", Change::kObserving);
  }
  void check() const;  ///< Errors: Fault::kConfig naming the option
};

/// One byte a token id: 0 where the token may not come next. Empty: every token may.
using TokenMask = std::span<const std::uint8_t>;

/// Chooses tokens of one sequence. The draw for position i is a function of (seed, sequence, i), so a token depends on
/// nothing but its logits and its place.
class Sampler {
 public:
  explicit Sampler(const SamplingConfig& config, std::uint64_t sequence = 0);

  /// The token for position `position`. Among equal logits the lowest id counts as the likeliest.
  ///
  /// Shapes   logits [V]; allowed [V] or empty.
  /// Numbers  temperature first, then top_k, then top_p; probabilities are f64.
  /// Errors   Fault::kNumeric for a logit that is NaN or +inf; Fault::kBug when the mask allows no token.
  int next(std::span<const float> logits_V, std::uint64_t position, TokenMask allowed = {});

 private:
  struct Candidate {
    double weight;  // exp((logit - largest) / temperature)
    int id;
  };
  /// Candidates, likeliest first, sorted only as far as somebody looks.
  class Ranking {
   public:
    void clear();
    void add(Candidate candidate) { heap_.push_back(candidate); }  // before the first at()
    std::size_t size() const { return heap_.size(); }
    const Candidate& at(std::size_t k);

   private:
    std::vector<Candidate> heap_;  // what is sorted gathers at its end
    std::size_t sorted_ = 0;
  };
  int draw(std::span<const float> logits_V, float largest, std::uint64_t position, TokenMask allowed);

  SamplingConfig config_;
  Random random_;
  Ranking ranking_;
};

}  // namespace slipway
