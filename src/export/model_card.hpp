// The page that travels with a model: what it is, where it came from, how to run it.
#pragma once

#include <string>

#include "io/model_file.hpp"
#include "src/export/export.hpp"

namespace slipway {

/// README.md of an exported folder: YAML front matter as model hubs read it, then a table and a few sentences.
std::string model_card(const ModelDescription& model, const Tokenizer& tokenizer, const ExportReport& report);

}  // namespace slipway
