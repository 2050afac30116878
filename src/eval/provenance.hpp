// Provenance of a report: the weights, the matmul library and compute type, the machine.
#pragma once

#include <string>

#include "src/core/json.hpp"
#include "src/infer/loaded_model.hpp"

namespace slipway {

/// Backend, matmul library and compute type that were used: "cpu/onednn/f32".
std::string compute_class(const LoadedModel& model);

/// Adds `model_sha256` (of the weights, the same in any file format), `tokenizer_sha256`, `compute_class`, `threads`,
/// `device`, `hardware`, `cpu`, `version`, `timestamp`, and for a GGUF `file_sha256`. Cost: reads the weights once.
void add_provenance(Json& report, const LoadedModel& model);

}  // namespace slipway
