// The model card of an export: description, origin and usage.
#pragma once

#include <string>

#include "io/model/model_spec.hpp"
#include "src/export/export.hpp"

namespace slipway {

/// Whether transformers' AutoTokenizer uses the pre-tokenizer of the exported tokenizer.json. For a qwen2 model it
/// replaces that with Qwen's own (transformers 5.24).
bool loads_with_auto_tokenizer(const ModelSpec& model, const Tokenizer& tokenizer);

/// README.md of an exported folder: YAML front matter as model hubs read it, then a table and a few sentences.
std::string model_card(const ModelSpec& model, const Tokenizer& tokenizer, const ExportReport& report);

}  // namespace slipway
