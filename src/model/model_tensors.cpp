#include "src/model/model_tensors.hpp"

#include <map>

#include "src/model/model_layers.hpp"

namespace slipway {

std::vector<TensorInfo> tensors_of(const ModelSpec& model) {
  Parameters parameters;
  const ModelLayers declared(model, TensorParallelShard::of(model, 0, 1), parameters);
  return parameters.named();
}

void check_tensors(const ModelSpec& model, const TensorSource& source, const std::string& called,
                   const std::string& from) {
  const std::vector<TensorInfo> stored = source.tensors();
  std::map<std::string, const TensorInfo*> by_name;
  for (const TensorInfo& tensor : stored) by_name[tensor.name] = &tensor;
  const auto refuse = [&](const auto&... what) { throw Error(Fault::kStorage, join(called, ": ", what...)); };
  if (model.layers > std::ssize(stored))  // checked first, since listing absurdly many layers would take long
    refuse(model.layers, " layers are declared, but only ", stored.size(),
           " tensors are there; the file is damaged or not complete");
  for (const TensorInfo& wanted : tensors_of(model)) {
    const auto found = by_name.find(wanted.name);
    if (found == by_name.end()) refuse("the tensor ", wanted.name, " is missing; the file is damaged or not complete");
    if (found->second->shape != wanted.shape)
      refuse(wanted.name, " has ", found->second->rows(), " rows of ", found->second->cols(), ", expected ",
             wanted.rows(), " of ", wanted.cols(), " from ", from, "; the file is damaged or belongs to another model");
    by_name.erase(found);
  }
  if (!by_name.empty())
    refuse("the tensor ", by_name.begin()->first, " has no place in this ", model.architecture,
           " model as Slipway computes it; leaving it out would give wrong numbers");
}

std::int64_t parameter_count(const ModelSpec& model, bool with_embeddings) {
  std::int64_t count = 0;
  for (const TensorInfo& tensor : tensors_of(model))
    if (with_embeddings ||
        (tensor.name != "token_embd.weight" && tensor.name != "output.weight" && tensor.name != "position_embd.weight"))
      count += tensor.size();
  return count;
}

std::int64_t matmul_parameters(const ModelSpec& model) {
  std::int64_t count = 0;
  for (const TensorInfo& tensor : tensors_of(model)) {
    const bool looked_up = tensor.name == "token_embd.weight" ? !model.tied : tensor.name == "position_embd.weight";
    if (tensor.shape.size() == 2 && !looked_up) count += tensor.size();
  }
  return count;
}

double training_flops(const ModelSpec& model, double tokens) {
  return 6.0 * static_cast<double>(matmul_parameters(model)) * tokens;
}

double attention_flops(const ModelSpec& model, double sequence, double sequences) {
  Parameters parameters;
  double flops = 0;
  for (const Block& block : ModelLayers(model, TensorParallelShard::of(model, 0, 1), parameters).blocks)
    flops += block.sequence_flops(sequence);
  return flops * sequences;
}

}  // namespace slipway
