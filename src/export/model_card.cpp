#include "src/export/model_card.hpp"

#include <sstream>

#include "io/model/model_family.hpp"
#include "src/core/clock.hpp"
#include "src/core/json.hpp"

namespace slipway {

bool loads_with_auto_tokenizer(const ModelSpec& model, const Tokenizer& tokenizer) {
  const std::string_view auto_pre_tokenizer = family_of(model).auto_pre_tokenizer;
  return auto_pre_tokenizer.empty() || auto_pre_tokenizer == name(tokenizer.parts().pre);
}

std::string model_card(const ModelSpec& model, const Tokenizer& tokenizer, const ExportReport& report) {
  const auto license = model.provenance.find("license");
  const std::string title = model.name.empty() ? "A " + model.architecture + " model" : model.name;
  std::ostringstream out;
  out << "---\nlibrary_name: transformers\npipeline_tag: text-generation\n";
  if (license != model.provenance.end()) out << "license: " << to_line(Json(license->second)) << "\n";
  out << "---\n\n# " << title << "\n\nA decoder-only language model of "
      << human_count(static_cast<double>(report.parameters))
      << " parameters, trained and exported by Slipway.\n\n| | |\n|---|---|\n";
  const auto row = [&](const std::string& key, const auto& value) { out << "| " << key << " | " << value << " |\n"; };
  row("architecture", model.architecture);
  row("layers x width", join(model.layers, " x ", model.width));
  row("heads (key-value heads) x head width", join(model.heads, " (", model.kv_heads, ") x ", model.head_width));
  row("feed-forward width", model.ffn);
  row("vocabulary", model.vocabulary);
  row("context", join(model.context, " tokens"));
  row("head", model.tied ? "tied to the embedding" : "of its own");
  row("stored as", describe_types(report));
  row("tokenizer", join(name(tokenizer.parts().pre), ", sha256 ", tokenizer.sha256()));
  for (const auto& [key, value] : model.provenance) row(key, value);
  const char* tokenizer_class =
      loads_with_auto_tokenizer(model, tokenizer) ? "AutoTokenizer" : "PreTrainedTokenizerFast";
  out << "\n## Use\n\n```python\nfrom transformers import AutoModelForCausalLM, " << tokenizer_class << "\n\n"
      << "tokenizer = " << tokenizer_class
      << ".from_pretrained(\".\")\nmodel = AutoModelForCausalLM.from_pretrained(\".\")\n"
      << "ids = tokenizer(\"Once\", return_tensors=\"pt\")\n"
      << "print(tokenizer.decode(model.generate(**ids, max_new_tokens=40)[0]))\n```\n\n## Limits\n\n"
      << "A base model: it continues text. It was not trained to follow instructions or to be safe, and repeats what "
         "its data say.\n";
  return out.str();
}

}  // namespace slipway
