// bench: prompt and decode speed of a model. The report keeps every sample.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "src/eval/gate.hpp"
#include "src/infer/loaded_model.hpp"

namespace slipway {

/// Sizes of the measurement. Options `prompt`, `tokens`, `batch`, `iterations`, `warmup`.
struct BenchConfig {
  int prompt = 512;
  int tokens = 128;
  int batch = 1;
  int iterations = 5;
  int warmup = 1;

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("prompt", self.prompt, {"prompt length", "TOKENS"}, ResumePolicy::kReporting);
    visit("tokens", self.tokens, {"tokens to decode after it", "TOKENS"}, ResumePolicy::kReporting);
    visit("batch", self.batch, {"sequences at once"}, ResumePolicy::kReporting);
    visit("iterations", self.iterations, {"measured runs; the median is reported"}, ResumePolicy::kReporting);
    visit("warmup", self.warmup, {"runs before them that do not count"}, ResumePolicy::kReporting);
  }
  void check() const;  ///< Errors: Fault::kConfig naming the option
};

/// Times of one run. Units: milliseconds.
struct BenchSample {
  double prompt_ms = 0;          ///< prefill: from the prompt's ids to its logits
  double first_token_ms = 0;     ///< from the prompt's ids to the first token, sampling included
  std::vector<double> token_ms;  ///< of each decoding step: one forward pass and one greedy choice for every sequence

  double decode_ms() const;
};

/// The verdict and its measurements.
struct BenchReport {
  Json json;          ///< schema slipway.bench
  std::string table;  ///< for people
  bool passed = false;
  std::string blocking_gates;  ///< ids of the gates that failed or could not be measured
};

/// Runs warm-up and iterations on seeded ids, and judges the median.
/// Errors   Fault::kConfig for invalid sizes.
BenchReport run_bench(LoadedModel& model, const BenchConfig& config, const QaPolicy& policy);

/// Judges given samples, as run_bench() does; the report has no model provenance.
BenchReport judge_bench(std::span<const BenchSample> samples, const BenchConfig& config, const QaPolicy& policy);

/// The type in which a model's matrices are stored: "f32", "q8_0", ...
std::string stored_weight_type(const ModelBundle& bundle);

/// The default compute type: bf16 for a bf16 file where the hardware supports bf16 matmuls, else f32, which represents
/// every stored value exactly.
std::string default_compute_type(const ModelBundle& bundle, bool native_bf16);

/// The smallest sample that at least a fraction `fraction` of the samples do not exceed. Errors: Fault::kBug without
/// samples.
double percentile(std::vector<double> samples, double fraction);

}  // namespace slipway
