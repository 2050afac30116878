// A run in one line: length, learning-rate schedule, validation.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "src/config/run_config.hpp"
#include "src/core/json.hpp"
#include "src/data/corpus.hpp"

namespace slipway {

/// Sizes of a data folder that the length of a run depends on.
struct DataSizes {
  std::int64_t sequences_per_epoch = 0;
  std::int64_t validation_tokens = 0;
};

/// The sizes of a data folder, as the loader counts them. Errors: as Loader.
DataSizes sizes_of(const Corpus& corpus, const RunConfig& config);

/// `run: 1000 steps (default) = 8.19M tokens = 0.25 epochs; cosine 3e-3 to 3e-4, warm-up 100; validation every 300`.
/// `config` is resolved. Without `data` the epochs are left out. `progress`: what was consumed up to the checkpoint
/// from which the run continues, possibly with another batch size.
std::string summary_of(const RunConfig& config, const std::optional<DataSizes>& data, const RunProgress& progress = {});

/// The same as JSON: `steps`, `steps_from`, `tokens`, `epochs`, `validate_every` ...
Json summary_json(const RunConfig& config, const std::optional<DataSizes>& data);

/// Sequences in the fixed validation set, for a validation split of `validation_tokens` tokens.
std::int64_t validation_sequences(const RunConfig& config, std::int64_t validation_tokens);

}  // namespace slipway
