// bench: how fast a model reads a prompt and writes tokens, with every sample kept.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "src/eval/gate.hpp"
#include "src/infer/loaded_model.hpp"

namespace slipway {

/// What is measured. Options `prompt`, `tokens`, `batch`, `iterations`, `warmup`.
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
  double prompt_ms = 0;          ///< from the prompt's ids to its logits
  double first_token_ms = 0;     ///< from the prompt's ids to the first token, sampling included
  std::vector<double> token_ms;  ///< of each decoding step: one pass and one greedy choice for every sequence

  double decode_ms() const;
};

/// The verdict and its numbers.
struct BenchReport {
  Json json;          ///< schema slipway.bench
  std::string table;  ///< for people
  bool passed = false;
  std::string blocking;
};

/// Runs warm-up and iterations on seeded ids, and judges the median.
/// Errors   Fault::kConfig for sizes that cannot be.
BenchReport run_bench(LoadedModel& model, const BenchConfig& config, const QaPolicy& policy);

/// The report of samples that were taken elsewhere, without the model's provenance: what run_bench() judges.
BenchReport judge_bench(std::span<const BenchSample> samples, const BenchConfig& config, const QaPolicy& policy);

/// The type that a model's matrices are stored in: "f32", "q8_0", ...
std::string type_in_file(const ModelBundle& files);

/// The type to compute in when nothing else is said: the file's own where the hardware multiplies it, else f32, which
/// holds every stored value exactly.
std::string compute_of_file(const ModelBundle& files, bool native_bf16);

/// The smallest sample that at least `share` of all do not exceed. Errors: Fault::kBug without samples.
double percentile(std::vector<double> samples, double share);

}  // namespace slipway
