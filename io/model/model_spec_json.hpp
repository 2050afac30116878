// A model's spec as JSON: what checkpoints keep under `architecture`.
#pragma once

#include <string>

#include "io/model/model_spec.hpp"
#include "src/core/json.hpp"

namespace slipway {

Json to_json(const ModelSpec& model);
/// Errors   Fault::kStorage naming the missing or misshapen key, and `called` as the file.
ModelSpec spec_from_json(const Json& json, const std::string& called);

}  // namespace slipway
