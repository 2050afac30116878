// What a report was measured on: the weights, the path that computed, the machine.
#pragma once

#include <string>

#include "src/core/json.hpp"
#include "src/infer/loaded_model.hpp"

namespace slipway {

/// The path that products take, not the hardware that is there: "cpu/onednn/f32".
std::string compute_class(const LoadedModel& model);

/// Adds `model_sha256` (the weights' own, whatever file holds them), `tokenizer_sha256`, `compute_class`, `threads`,
/// `cpu`, `version`, `timestamp`, and for a GGUF `file_sha256`. Cost: reads the weights once.
void add_provenance(Json& report, const LoadedModel& model);

}  // namespace slipway
