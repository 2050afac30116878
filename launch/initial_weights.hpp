// `train --init MODEL`: a run that begins with the weights of another model.
#pragma once

#include <optional>

#include "src/data/tokenizer.hpp"
#include "src/infer/loaded_model.hpp"
#include "src/train/config.hpp"

namespace slipway {

/// Opens `config.train.init`, if any, and makes sure that its weights mean the same here: equal shapes, heads, rotary
/// base, norms and token ids. The key then names the very checkpoint, not the run that may train on.
///
/// Errors   Fault::kConfig naming what differs; Fault::kStorage when it cannot be opened.
std::optional<ModelFiles> open_initial_weights(RunConfig& config, const ModelDescription& model,
                                               const Tokenizer& tokenizer);

}  // namespace slipway
