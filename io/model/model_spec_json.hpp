// A ModelSpec as JSON, as checkpoints store it under `architecture`.
#pragma once

#include <string>

#include "io/model/model_spec.hpp"
#include "src/core/json.hpp"

namespace slipway {

Json to_json(const ModelSpec& model);
/// Errors   Fault::kStorage naming `source_name` (the file) and the key that is missing or of another type.
ModelSpec spec_from_json(const Json& json, const std::string& source_name);

}  // namespace slipway
