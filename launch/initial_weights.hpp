// `train --init MODEL`: a run that begins with the weights of another model.
#pragma once

#include <optional>

#include "src/config/run_config.hpp"
#include "src/data/tokenizer.hpp"
#include "src/infer/loaded_model.hpp"

namespace slipway {

/// The first thing that sets the shapes of two models apart, as "key is here, there"; empty when weights of one fit the
/// other.
std::string shape_difference(const ModelDescription& here, const ModelDescription& there);

/// Opens `config.train.init`, if any, and gives `config.model` its shape where keys do not say otherwise.
/// Rows of its embedding behind the last token (padding, which published models have) are left out, with a word.
///
/// Errors   Fault::kStorage when it cannot be opened.
std::optional<ModelBundle> open_initial_weights(RunConfig& config, const Fields& fields);

/// Makes sure that its weights mean the same here: equal shapes, heads, rotary base, norms and token ids. The key then
/// names the very checkpoint, not the run that may train on.
///
/// Errors   Fault::kConfig naming what differs.
void check_initial_weights(RunConfig& config, const ModelBundle& files, const ModelDescription& model,
                           const Tokenizer& tokenizer);

/// A sentence about what was loaded, and from where.
std::string describe_initial_weights(const ModelBundle& files);

}  // namespace slipway
