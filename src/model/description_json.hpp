// A model's shape as JSON: what checkpoints carry under `architecture`.
#pragma once

#include "io/model_file.hpp"
#include "src/core/json.hpp"

namespace slipway {

Json to_json(const ModelDescription& model);
/// Errors   Fault::kStorage naming the missing or misshapen key, and `called` as the file.
ModelDescription description_of(const Json& json, const std::string& called);

}  // namespace slipway
