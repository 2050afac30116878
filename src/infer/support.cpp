#include "src/infer/support.hpp"

#include "io/model/model_family.hpp"
#include "src/core/error.hpp"

namespace slipway {

std::string export_limitation(ModelFormat format, const ModelSpec& model, const Tokenizer& tokenizer) {
  const ModelFamily& family = family_of(model);
  if (ModelSpec default_model = model;
      default_model.blocks = family.defaults.blocks, default_model.block_kinds() != model.block_kinds())
    return join("no other program has a ", model.architecture, " with the blocks ", model.blocks,
                "; keep its checkpoints");
  if (family.biases == AttentionBiases::kAll && !family.has_biases_of(model))
    return join("no other program has a ", model.architecture, " without attention's biases; keep its checkpoints");
  switch (format) {
    case ModelFormat::kGguf:
      if (tokenizer.parts().pre == PreTokenizer::kChar)
        return "a character tokenizer has no place in a GGUF; export to a folder (safetensors)";
      if (model.rope_scaling == "llama3" && !family.has_rope_freq_factors)
        return join("llama.cpp has no ", model.architecture,
                    " with llama3's RoPE scaling; export to a folder (safetensors)");
      if (model.output_bias && !family.has_output_bias)
        return join("llama.cpp has no ", model.architecture,
                    " with a bias of attention's output; export to a folder (safetensors)");
      return "";
    case ModelFormat::kHuggingFace:
      if (!family.has_biases_of(model))
        return join("transformers has no ", model.architecture, model.qkv_bias ? " with" : " without",
                    " biases of q, k and v and ", model.output_bias ? "with" : "without",
                    " one of attention's output; export to a .gguf file");
      return "";
  }
  return "";
}

}  // namespace slipway
