// `train --init MODEL`: a run that begins with the weights of another model.
#pragma once

#include <optional>

#include "src/config/run_config.hpp"
#include "src/data/tokenizer.hpp"
#include "src/infer/loaded_model.hpp"

namespace slipway {

/// Opens `config.train.init`, if any, and gives `config.model` its shape where keys do not say otherwise.
///
/// Errors   Fault::kStorage when it cannot be opened.
std::optional<ModelBundle> open_initial_weights(RunConfig& config, const Fields& fields);

/// Makes sure that its weights mean the same here: equal shapes, heads, rotary base, norms and token ids. The key then
/// names the very checkpoint, not the run that may train on.
///
/// Errors   Fault::kConfig naming what differs.
void check_initial_weights(RunConfig& config, const ModelBundle& files, const ModelSpec& model,
                           const Tokenizer& tokenizer);

/// A sentence about what was loaded, and from where.
std::string describe_initial_weights(const ModelBundle& files);

}  // namespace slipway
