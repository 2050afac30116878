// What can be done with which model: one place that the exporter, qa and the rehearsal ask.
#pragma once

#include <string>

#include "io/model/model_spec.hpp"
#include "io/model/tensor_layout.hpp"
#include "src/data/tokenizer.hpp"

namespace slipway {

/// Why this model cannot go there, as a sentence that names the way out; empty when it can.
std::string export_limitation(ModelFormat stage, const ModelSpec& model, const Tokenizer& tokenizer);

}  // namespace slipway
