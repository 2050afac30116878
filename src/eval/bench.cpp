#include "src/eval/bench.hpp"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <numeric>

#include "kernels/backend/cpu_backend.hpp"
#include "src/core/clock.hpp"
#include "src/core/log.hpp"
#include "src/core/random.hpp"
#include "src/core/words.hpp"
#include "src/eval/provenance.hpp"
#include "src/infer/sampler.hpp"
#include "src/infer/session.hpp"

namespace slipway {
namespace {

BenchSample run_once(Session& session, Sampler& sampler, MemorySpace& memory, std::span<const int> prompt_BT,
                     int tokens) {
  std::span<const int> next_B;
  const auto sample_next = [&](int position) {
    next_B = sampler.next(session.device_logits(), static_cast<std::uint64_t>(position));
  };
  BenchSample sample;
  session.rewind(0);
  const double begin_s = now_s();
  session.decode(prompt_BT);
  memory.synchronize();
  sample.prompt_ms = (now_s() - begin_s) * 1e3;
  sample_next(0);
  sample.first_token_ms = (now_s() - begin_s) * 1e3;
  for (int t = 1; t <= tokens; ++t) {
    const double step_begin_s = now_s();
    session.decode(next_B);
    sample_next(t);
    sample.token_ms.push_back((now_s() - step_begin_s) * 1e3);
  }
  return sample;
}

std::vector<double> collect(std::span<const BenchSample> samples, double (*get)(const BenchSample&)) {
  std::vector<double> values;
  for (const BenchSample& sample : samples) values.push_back(get(sample));
  return values;
}

/// Standard deviation over mean; 0 for a single sample.
double coefficient_of_variation(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return values.size() < 2 || mean == 0 ? 0 : std::sqrt(squares / (n - 1)) / mean;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double per_second(double count, double ms) { return ms > 0 ? count / ms * 1e3 : 0; }

Json latency_summary(const std::vector<double>& ms) {
  return {{"p50", percentile(ms, 0.50)},
          {"p95", percentile(ms, 0.95)},
          {"mean", std::accumulate(ms.begin(), ms.end(), 0.0) / static_cast<double>(ms.size())},
          {"min", *std::min_element(ms.begin(), ms.end())},
          {"max", *std::max_element(ms.begin(), ms.end())},
          {"n", ms.size()}};
}

}  // namespace

double BenchSample::decode_ms() const { return std::accumulate(token_ms.begin(), token_ms.end(), 0.0); }

void BenchConfig::check() const {
  const auto require_at_least = [](const char* option, int value, int minimum) {
    if (value < minimum)
      throw Error(Fault::kConfig, join("--", option, " is ", value, ", but at least ", minimum, " is expected"));
  };
  require_at_least("prompt", prompt, 1);
  require_at_least("tokens", tokens, 1);
  require_at_least("batch", batch, 1);
  require_at_least("iterations", iterations, 1);
  require_at_least("warmup", warmup, 0);
}

double percentile(std::vector<double> samples, double fraction) {
  require(!samples.empty(), "percentile: no samples");
  std::sort(samples.begin(), samples.end());
  const auto rank = static_cast<std::size_t>(std::ceil(fraction * static_cast<double>(samples.size())));
  return samples[std::clamp<std::size_t>(rank, 1, samples.size()) - 1];
}

BenchReport judge_bench(std::span<const BenchSample> samples, const BenchConfig& config, const QaPolicy& policy) {
  const std::vector<double> prompt_ms = collect(samples, [](const BenchSample& s) { return s.prompt_ms; });
  const std::vector<double> first_token_ms = collect(samples, [](const BenchSample& s) { return s.first_token_ms; });
  const std::vector<double> decode_ms = collect(samples, [](const BenchSample& s) { return s.decode_ms(); });
  std::vector<double> token_ms;
  for (const BenchSample& sample : samples)
    token_ms.insert(token_ms.end(), sample.token_ms.begin(), sample.token_ms.end());
  const double prompt_tokens_per_s = per_second(static_cast<double>(config.batch) * config.prompt, median(prompt_ms));
  const double decode_tokens_per_s = per_second(static_cast<double>(config.batch) * config.tokens, median(decode_ms));

  Gates gates(policy, "");
  const Json inputs = {
      {"prompt", config.prompt}, {"tokens", config.tokens}, {"batch", config.batch}, {"iterations", config.iterations}};
  const auto make_measure = [&](double value, const std::string& explanation) {
    return [&inputs, value, explanation] { return Measurement{value, explanation, inputs}; };
  };
  gates.judge("bench_prompt_speed", Compare::kAbove, "batch * prompt tokens / median time of the prompt",
              make_measure(prompt_tokens_per_s, "the floor is the policy's"));
  gates.judge("bench_decode_speed", Compare::kAbove, "batch * decoded tokens / median time of decoding",
              make_measure(decode_tokens_per_s, "the floor is the policy's"));
  if (samples.size() < 2) gates.not_applicable("bench_variation", "one iteration has no spread; raise --iterations");
  else
    gates.judge("bench_variation", Compare::kAtMost, "standard deviation / mean of the iterations' decoding times",
                make_measure(coefficient_of_variation(decode_ms),
                             "above the threshold the machine was busy: repeat on a quiet one"));

  Json json = {{"schema", "slipway.bench"},
               {"schema_version", 1},
               {"passed", gates.passed()},
               {"decode_tokens_per_s", decode_tokens_per_s},
               {"prompt_tokens_per_s", prompt_tokens_per_s},
               {"first_token_ms", median(first_token_ms)}};
  json.update(inputs);
  json["runs_discarded"] = config.warmup;
  json["first_token_spread_ms"] = latency_summary(first_token_ms);
  json["decode_token_spread_ms"] = latency_summary(token_ms);
  json["decode_variation"] = coefficient_of_variation(decode_ms);
  json["prompt_variation"] = coefficient_of_variation(prompt_ms);
  json["samples"] = Json::array();
  for (const BenchSample& sample : samples)
    json["samples"].push_back({{"prompt_ms", sample.prompt_ms},
                               {"first_token_ms", sample.first_token_ms},
                               {"decode_ms", sample.decode_ms()},
                               {"token_ms", sample.token_ms}});
  gates.add_to(json);

  std::ostringstream table;
  table << std::fixed << std::setprecision(1) << "prompt   " << prompt_tokens_per_s << " tokens/s (" << config.batch
        << " x " << config.prompt << " tokens)\ndecode   " << decode_tokens_per_s << " tokens/s (" << config.batch
        << " x " << config.tokens << " tokens)\nfirst token  " << median(first_token_ms) << " ms; then p50 "
        << std::setprecision(3) << percentile(token_ms, 0.50) << " ms, p95 " << percentile(token_ms, 0.95)
        << " ms a step\nmedian of " << pluralize(samples.size(), "run") << " after "
        << pluralize(config.warmup, "warm-up run") << "\n\n"
        << gates.table();
  return {.json = std::move(json),
          .table = table.str(),
          .passed = gates.passed(),
          .blocking_gates = gates.blocking_gates()};
}

BenchReport run_bench(LoadedModel& model, const BenchConfig& config, const QaPolicy& policy) {
  config.check();
  const int T = config.prompt + config.tokens;
  if (T > model.spec().context)
    log::warn(join("--prompt ", config.prompt, " and --tokens ", config.tokens, " together exceed model.context ",
                   model.spec().context, ": the speed is real, the text would not be"));
  const Random random(/*seed=*/1, stream_of("bench/ids"));
  std::vector<int> prompt_BT(static_cast<std::size_t>(config.batch) * static_cast<std::size_t>(config.prompt));
  for (std::size_t i = 0; i < prompt_BT.size(); ++i)
    prompt_BT[i] = static_cast<int>(random.uniform_int(static_cast<std::uint64_t>(model.spec().vocabulary), i));

  Session session(model.model(), config.batch, T);
  Sampler sampler(model.backend(), {.temperature = 0});
  std::vector<BenchSample> samples;
  log::Progress progress("bench");
  for (int run = 0; run < config.warmup + config.iterations; ++run) {
    const BenchSample sample = run_once(session, sampler, *model.backend().memory, prompt_BT, config.tokens);
    if (run >= config.warmup) samples.push_back(sample);
    progress(run + 1, config.warmup + config.iterations);
  }

  BenchReport report = judge_bench(samples, config, policy);
  report.json["model"] = model.bundle().path;
  report.json["stored_type"] = stored_weight_type(model.bundle());
  add_provenance(report.json, model);
  const auto weight_bytes = static_cast<double>(model.model().matmul_weight_bytes());
  const double weight_bytes_per_s = weight_bytes * report.json["decode_tokens_per_s"].get<double>() / config.batch;
  report.json["weight_bytes_per_step"] = weight_bytes;
  report.json["decode_weight_bytes_per_s"] = weight_bytes_per_s;
  std::ostringstream header;
  header << compute_class(model) << " with " << pluralize(model.backend().threads, "thread") << ", weights stored as "
         << stored_weight_type(model.bundle()) << "; decoding read its " << std::setprecision(3) << weight_bytes / 1e6
         << " MB of weights at " << weight_bytes_per_s / 1e9 << " GB/s\n";
  report.table = header.str() + report.table;
  return report;
}

std::string stored_weight_type(const ModelBundle& bundle) {
  return std::string(name(bundle.source->stored_type("blk.0.ffn_down.weight")));
}

std::string default_compute_type(const ModelBundle& bundle, bool native_bf16) {
  return stored_weight_type(bundle) == "bf16" && native_bf16 ? "bf16" : "f32";
}

}  // namespace slipway
