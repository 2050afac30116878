#include "src/train/run_banner.hpp"

#include <cstdio>

#include "kernels/backend/cpu_backend.hpp"
#include "src/config/run_summary.hpp"
#include "src/core/clock.hpp"
#include "src/core/log.hpp"
#include "src/core/words.hpp"
#include "src/model/model_tensors.hpp"

namespace slipway {
namespace {

std::string gigaflops(double flops) {
  char text[32];
  std::snprintf(text, sizeof text, flops < 1e12 ? "%.3g GFLOP/s" : "%.0f GFLOP/s", flops / 1e9);
  return text;
}

std::string peak_text(const RunBanner& run) {
  const std::string ranks = pluralize(run.mesh.data->size() * run.mesh.tensor->size(), "rank");
  return run.peak.size == 0 ? join("runtime.peak_gflops of ", ranks)
                            : join("the best matmul (", run.peak.size, "^3) measured on ", ranks);
}

}  // namespace

void log_banner(const RunBanner& run) {
  const RunConfig& config = run.config;
  const ModelSpec& model = run.model.spec();
  log::info(join(model.name, ": ", human_count(static_cast<double>(parameter_count(model, true))), " parameters (",
                 human_count(static_cast<double>(parameter_count(model, false))), " without embeddings), vocabulary ",
                 model.vocabulary, ", ", run.mesh.data->size(), " data x ", run.mesh.tensor->size(), " tensor ranks, ",
                 pluralize(run.backend.threads, "thread"), " each, compute ", name(config.compute_dtype()), " by ",
                 run.backend.gemm_library, " on ", run.backend.device));
  std::string components;
  for (const auto& [component, size] : run.model.parameters().component_sizes())
    components += join(components.empty() ? "" : ", ", component, " ", human_count(static_cast<double>(size)));
  log::info("parameters by component: " + components);
  const Loader epoch(run.corpus, Split::kTrain, config.data, config.train.sequence, config.train.seed);
  log::info(join("a step is ", config.train.batch, " x ", config.train.sequence, " tokens in ",
                 pluralize(run.slots.micro_batches, "micro-batch", "micro-batches"), " and ",
                 pluralize(run.slots.slots, "slot"), "; an epoch is ",
                 pluralize(epoch.sequences_per_epoch(), "sequence"), " (",
                 human_count(static_cast<double>(run.corpus.tokens(Split::kTrain))), " tokens)"));
  const std::int64_t validated = validation_sequences(config, run.corpus.tokens(Split::kValidation));
  if (config.reporting.validate_every > 0 && validated > 0)
    log::info(join("Val Loss is the mean over ",
                   describe_sequences(run.corpus, Split::kValidation, validated, config.train.sequence),
                   ", the same ones each time; slipway score RUN --data DIR computes it again"));
  log::info(join("plan: ", summary_of(run.estimate), " (plan.json)"));
  log::info(join("MFU = 6 x matmul parameters x tokens of a step / its seconds / ", gigaflops(run.peak.flops), ", ",
                 peak_text(run)));
}

}  // namespace slipway
