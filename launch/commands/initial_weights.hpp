// `train --init MODEL`: a run that begins with the weights of another model.
#pragma once

#include <optional>

#include "src/config/run_config.hpp"
#include "src/data/tokenizer.hpp"
#include "src/infer/loaded_model.hpp"

namespace slipway {

/// Opens `config.train.init`, if set, and copies its shape into `config.model`, except for keys that are set.
///
/// Errors   Fault::kStorage when it cannot be opened.
std::optional<ModelBundle> open_initial_weights(RunConfig& config, const Fields& fields);

/// Checks that the weights fit this run's model: equal shapes, heads, RoPE base, norms and token ids. Then sets
/// train.init to the checkpoint itself, since the run that it belongs to may continue.
///
/// Errors   Fault::kConfig naming what differs.
void check_initial_weights(RunConfig& config, const ModelBundle& bundle, const ModelSpec& model,
                           const Tokenizer& tokenizer);

/// A sentence that says what was loaded, and from where.
std::string describe_initial_weights(const ModelBundle& bundle);

}  // namespace slipway
