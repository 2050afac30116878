// Tensors, parameter counts and FLOPs of a model, derived from the parameters that its layers declare.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/model/model_spec.hpp"
#include "io/model/tensor_layout.hpp"
#include "io/model/tensor_source.hpp"

namespace slipway {

/// Every tensor of the model by its canonical name (GGUF's), with its shape, in the order in which files hold them.
std::vector<TensorInfo> tensors_of(const ModelSpec& model);

/// Makes sure that `source` has the tensors of the model and no other, before memory is allocated for them.
/// Errors   Fault::kStorage naming `source_name` and the tensor, as a file of `format` calls it; `shape_source` says
///          where the shapes come from.
void check_tensors(const ModelSpec& model, const TensorSource& source, const std::string& source_name,
                   const std::string& shape_source, ModelFormat format = ModelFormat::kGguf);

/// Parameters of the whole model; `with_embeddings` counts embedding and head.
std::int64_t parameter_count(const ModelSpec& model, bool with_embeddings);

/// Parameters of the matmuls of one token: all matrices but the embedding, head included (also when tied).
std::int64_t matmul_parameters(const ModelSpec& model);

/// Operations of one training step over `tokens` tokens: 6 x matmul parameters x tokens (forward 2, backward 4).
double training_flops(const ModelSpec& model, double tokens);

/// Operations of the attention matmuls for sequences of `sequence` tokens, forward and backward, counting only the
/// causal half.
double attention_flops(const ModelSpec& model, double sequence, double sequences);

}  // namespace slipway
