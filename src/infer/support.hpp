// Which export targets support a model; used by the exporter, qa and the rehearsal.
#pragma once

#include <string>

#include "io/model/model_spec.hpp"
#include "io/model/tensor_layout.hpp"
#include "src/data/tokenizer.hpp"

namespace slipway {

/// Why the target does not support this model, as a sentence that names the alternative; empty when it does.
std::string export_limitation(ModelFormat format, const ModelSpec& model, const Tokenizer& tokenizer);

}  // namespace slipway
