// Which tensors a model has, and what each is called in a GGUF and in a Hugging Face folder.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "io/model_file.hpp"

namespace slipway {

/// Every tensor of the model by its canonical name (GGUF's), with its shape, in the order in which files hold them.
std::vector<NamedTensor> tensors_of(const ModelDescription& model);

/// "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight". Errors: Fault::kBug for a name that no family
/// has.
std::string hugging_face_name(const std::string& gguf_name);

/// The way back. Errors: Fault::kStorage for a name that no family has.
std::string gguf_name(const std::string& hugging_face_name);

/// llama.cpp applies RoPE to interleaved rows (2j, 2j + 1) of a llama's q and k, every other implementation to rows
/// half a head apart (j, j + e/2). The number of heads in the rows of `name`, or 0 when a GGUF of `model` does not
/// permute the rows of that tensor.
int permuted_heads(const ModelDescription& model, const std::string& name);

/// Reorders rows inside each head from halves to neighbours. Shapes: values [heads * head width, cols].
void permute_rope(std::span<float> values, int heads, std::int64_t cols);
/// The inverse.
void unpermute_rope(std::span<float> values, int heads, std::int64_t cols);
void unpermute_rope(std::span<std::byte> values, int heads, std::int64_t cols);  ///< of stored rows, `cols` bytes long

}  // namespace slipway
