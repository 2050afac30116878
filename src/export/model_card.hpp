// The model card of an export: description, origin and usage.
#pragma once

#include <string>

#include "io/model/model_spec.hpp"
#include "src/export/export.hpp"

namespace slipway {

/// Whether transformers' AutoTokenizer reads the exported tokenizer as it is. For a qwen2 it does not: there it puts
/// Qwen's own rules in the place of those in tokenizer.json (transformers 5.24).
bool loads_by_auto_tokenizer(const ModelSpec& model, const Tokenizer& tokenizer);

/// README.md of an exported folder: YAML front matter as model hubs read it, then a table and a few sentences.
std::string model_card(const ModelSpec& model, const Tokenizer& tokenizer, const ExportReport& report);

}  // namespace slipway
