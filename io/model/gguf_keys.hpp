// What the metadata of a GGUF asks a model to compute: obeyed, or refused by name.
#pragma once

#include "io/model/gguf_metadata.hpp"
#include "io/model/model_spec.hpp"

namespace slipway {

/// Looks at every key that may change what llama.cpp computes with the file. `model` is what was read from the keys
/// that Slipway obeys; any other key of the architecture must be known to change nothing, by its name or by its value.
/// Errors   Fault::kStorage naming the key and its value.
void refuse_unsupported_features(const GgufMetadata& metadata, const ModelSpec& model);

/// Errors   Fault::kStorage for one part of several, with the command that joins them, and for a file that is no model
///          of its own (an adapter, a projector).
void refuse_partial_file(const GgufMetadata& metadata);

}  // namespace slipway
