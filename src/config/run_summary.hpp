// A run in one line: length, learning-rate schedule, validation.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "src/config/run_config.hpp"
#include "src/core/json.hpp"
#include "src/data/corpus.hpp"

namespace slipway {

/// What the data folder says about a run's length.
struct DataSizes {
  std::int64_t sequences_per_epoch = 0;
  std::int64_t validation_tokens = 0;
};

/// Those of a data folder, by the loader's own count. Errors: as Loader.
DataSizes sizes_of(const Corpus& corpus, const RunConfig& config);

/// `run: 1000 steps (default) = 8.19M tokens = 0.25 epochs; cosine 3e-3 to 3e-4, warm-up 100; validation every 300`.
/// `config` is resolved. Without `data` the epochs are left out. `done`: what the checkpoint that the run goes on from
/// has consumed, in batches that may have been of another size.
std::string summary_of(const RunConfig& config, const std::optional<DataSizes>& data, const RunProgress& done = {});

/// The same as numbers: `steps`, `steps_from`, `tokens`, `epochs`, `validate_every` ...
Json summary_json(const RunConfig& config, const std::optional<DataSizes>& data);

/// Sequences of the fixed validation set, where the validation split has so many tokens.
std::int64_t validation_sequences(const RunConfig& config, std::int64_t validation_tokens);

}  // namespace slipway
