// What can be done with which model: one place that the exporter, qa and the rehearsal ask.
#pragma once

#include <string>

#include "io/model_file.hpp"
#include "src/data/tokenizer.hpp"

namespace slipway {

/// Where a model may be asked to go.
enum class ExportFormat { kGguf, kHuggingFace };

/// Why this model cannot go there, as a sentence that names the way out; empty when it can.
std::string export_limitation(ExportFormat stage, const ModelDescription& model, const Tokenizer& tokenizer);

}  // namespace slipway
