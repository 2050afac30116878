#include "src/infer/support.hpp"

#include "src/core/error.hpp"

namespace slipway {

std::string export_limitation(ExportFormat stage, const ModelDescription& model, const Tokenizer& tokenizer) {
  switch (stage) {
    case ExportFormat::kGguf:
      if (tokenizer.parts().pre == PreTokenizer::kChar)
        return "a character tokenizer has no place in a GGUF; export to a folder (safetensors)";
      return "";
    case ExportFormat::kHuggingFace:
      if (model.qkv_bias != (model.architecture == "qwen2"))
        return join("transformers has no ", model.architecture, model.qkv_bias ? " with" : " without",
                    " biases of q, k and v alone; export to a .gguf file");
      return "";
  }
  return "";
}

}  // namespace slipway
