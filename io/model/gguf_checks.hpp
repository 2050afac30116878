// Checks that Slipway supports every feature that the metadata of a GGUF asks for.
#pragma once

#include "io/model/gguf_metadata.hpp"
#include "io/model/model_spec.hpp"

namespace slipway {

/// Checks every key that may change the results of llama.cpp with the file. `model` was read from the keys that Slipway
/// supports; any other key of the architecture must be known to have no effect, by its name or by its value.
/// Errors   Fault::kStorage naming the key and its value.
void refuse_unsupported_features(const GgufMetadata& metadata, const ModelSpec& model);

/// Errors   Fault::kStorage for one part of a split model, with the command that joins the parts, and for a file that
///          is not a complete model (an adapter, a projector).
void refuse_partial_file(const GgufMetadata& metadata);

}  // namespace slipway
