#include "src/infer/support.hpp"

#include "io/model/model_family.hpp"
#include "src/core/error.hpp"

namespace slipway {

namespace {

/// Whether transformers' class for this architecture has the biases of attention.
bool has_known_biases(const ModelSpec& model) {
  if (model.architecture == "qwen2") return model.qkv_bias && !model.output_bias;
  if (model.architecture == "gpt2") return model.qkv_bias && model.output_bias;
  return model.qkv_bias == model.output_bias;
}

}  // namespace

std::string export_limitation(ModelFormat stage, const ModelSpec& model, const Tokenizer& tokenizer) {
  if (ModelSpec usual = model;
      usual.blocks = find_family(model.architecture)->defaults.blocks, usual.block_kinds() != model.block_kinds())
    return join("no other program has a ", model.architecture, " with the blocks ", model.blocks,
                "; keep its checkpoints");
  if (model.architecture == "gpt2" && !has_known_biases(model))
    return "no other program has a gpt2 without attention's biases; keep its checkpoints";
  switch (stage) {
    case ModelFormat::kGguf:
      if (tokenizer.parts().pre == PreTokenizer::kChar)
        return "a character tokenizer has no place in a GGUF; export to a folder (safetensors)";
      if (model.rope_scaling == "llama3" && model.architecture != "llama")  // it looks for the divisors there alone
        return join("llama.cpp has no ", model.architecture,
                    " with llama3's RoPE scaling; export to a folder (safetensors)");
      if (model.output_bias && model.architecture.starts_with("qwen"))
        return join("llama.cpp has no ", model.architecture,
                    " with a bias of attention's output; export to a folder (safetensors)");
      return "";
    case ModelFormat::kHuggingFace:
      if (!has_known_biases(model))
        return join("transformers has no ", model.architecture, model.qkv_bias ? " with" : " without",
                    " biases of q, k and v and ", model.output_bias ? "with" : "without",
                    " one of attention's output; export to a .gguf file");
      return "";
  }
  return "";
}

}  // namespace slipway
