#include "src/config/run_summary.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "src/core/words.hpp"

namespace slipway {
namespace {

std::string format_number(const char* pattern, double value) {
  char text[48];
  std::snprintf(text, sizeof text, pattern, value);
  return text;
}

/// "512", "8.19k", "512k", "8.19M": three significant digits, no trailing zeros.
std::string format_count(double count) {
  constexpr std::array kUnits = {"", "k", "M", "B", "T"};
  std::size_t unit = 0;
  for (; count >= 999.5 && unit + 1 < kUnits.size(); ++unit) count /= 1000;
  return format_number(count < 1000 ? "%.3g" : "%.0f", count) + kUnits[unit];
}

/// "3e-3", "1.25e-3", "0": up to three digits, and an exponent without leading zeros.
std::string format_rate(double rate) {
  if (rate == 0) return "0";
  std::string text = format_number("%.2e", rate);
  const std::size_t e = text.find('e');
  std::string mantissa = text.substr(0, e);
  mantissa.erase(mantissa.find_last_not_of('0') + 1);
  if (mantissa.back() == '.') mantissa.pop_back();
  return join(mantissa, "e", std::stoi(text.substr(e + 1)));
}

double remaining_sequences(const RunConfig& config, const RunProgress& progress) {
  return static_cast<double>(std::max<std::int64_t>(0, config.train.steps - progress.steps)) * config.train.batch;
}

/// A run whose length is set below what it has already done keeps its checkpoint: the figures are the checkpoint's.
std::int64_t total_steps(const RunConfig& config, const RunProgress& progress) {
  return std::max<std::int64_t>(config.train.steps, progress.steps);
}

double total_tokens(const RunConfig& config, const RunProgress& progress) {
  return static_cast<double>(progress.consumed_tokens) + remaining_sequences(config, progress) * config.train.sequence;
}

double total_epochs(const RunConfig& config, const DataSizes& data, const RunProgress& progress) {
  return (static_cast<double>(progress.consumed_sequences) + remaining_sequences(config, progress)) /
         static_cast<double>(std::max<std::int64_t>(1, data.sequences_per_epoch));
}

std::string describe_schedule(const RunConfig& config) {
  const OptimConfig& optim = config.optim;
  std::string text =
      join(optim.schedule, " ", format_rate(optim.peak_lr), " to ", format_rate(optim.floor * optim.peak_lr));
  if (optim.schedule == "wsd") text += join(" in the last ", pluralize(optim.decay_steps, "step"));
  if (optim.schedule_steps != config.train.steps) text += join(" of ", pluralize(optim.schedule_steps, "step"));
  return join(text, ", warm-up ", optim.warmup_steps);
}

std::string describe_validation(const RunConfig& config, const std::optional<DataSizes>& data) {
  if (config.reporting.validate_every == 0) return "no validation";
  if (data && data->validation_tokens == 0) return "no validation: the data has no validation split";
  return join("validation every ", config.reporting.validate_every);
}

}  // namespace

DataSizes sizes_of(const Corpus& corpus, const RunConfig& config) {
  const Loader loader(corpus, Split::kTrain, config.data, config.train.sequence, config.train.seed);
  return {loader.sequences_per_epoch(), corpus.tokens(Split::kValidation)};
}

std::int64_t validation_sequences(const RunConfig& config, std::int64_t validation_tokens) {
  return num_sequences(config.reporting.validate_tokens, validation_tokens, config.train.sequence);
}

std::string summary_of(const RunConfig& config, const std::optional<DataSizes>& data, const RunProgress& progress) {
  const std::string source = config.train.steps_source.empty() ? "" : join(" (", config.train.steps_source, ")");
  std::string epochs;
  if (data) {
    const std::string count = format_count(total_epochs(config, *data, progress));
    epochs = join(" = ", count, count == "1" ? " epoch" : " epochs");
  }
  const std::int64_t steps = total_steps(config, progress);
  return join("run: ", pluralize(steps, "step"), steps == config.train.steps ? source : " (already done)", " = ",
              format_count(total_tokens(config, progress)), " tokens", epochs, "; ", describe_schedule(config), "; ",
              describe_validation(config, data));
}

Json summary_json(const RunConfig& config, const std::optional<DataSizes>& data) {
  Json json = {{"summary", summary_of(config, data)},
               {"steps", config.train.steps},
               {"steps_from", config.train.steps_source.empty() ? "train.steps" : config.train.steps_source},
               {"tokens", static_cast<std::int64_t>(total_tokens(config, {}))},
               {"schedule", config.optim.schedule},
               {"peak_lr", config.optim.peak_lr},
               {"floor_lr", config.optim.floor * config.optim.peak_lr},
               {"warmup_steps", config.optim.warmup_steps},
               {"schedule_steps", config.optim.schedule_steps},
               {"validate_every", config.reporting.validate_every}};
  if (data) json["epochs"] = total_epochs(config, *data, {});
  return json;
}

}  // namespace slipway
