#include "src/model/model_tensors.hpp"

#include <map>

#include "src/core/json.hpp"
#include "src/model/model_layers.hpp"

namespace slipway {

std::vector<TensorInfo> tensors_of(const ModelSpec& model) {
  Parameters parameters;
  const ModelLayers declared(model, TensorParallelShard::of(model, 0, 1), parameters);
  return parameters.tensor_infos();
}

namespace {

/// The tensor of a file of `format` in which `name` is stored, as the file calls it, for messages.
std::string name_in_file(const ModelSpec& model, ModelFormat format, const std::string& name) {
  for (const FileTensor& file_tensor : to_file_tensors(model, format, tensors_of(model)))
    for (const TensorInfo& part : file_tensor.parts)
      if (part.name == name) return file_tensor.stored.name;
  return name;
}

}  // namespace

void check_tensors(const ModelSpec& model, const TensorSource& source, const std::string& source_name,
                   const std::string& shape_source, ModelFormat format) {
  const std::vector<TensorInfo> source_tensors = source.tensors();
  std::map<std::string, const TensorInfo*> by_name;
  for (const TensorInfo& tensor : source_tensors) by_name[tensor.name] = &tensor;
  const auto throw_mismatch = [&](const auto&... what) {
    throw Error(Fault::kStorage, join(source_name, ": ", what...));
  };
  if (model.layers > std::ssize(source_tensors))  // checked first, since listing absurdly many layers would take long
    throw_mismatch(model.layers, " layers are declared, but only ", source_tensors.size(),
                   " tensors are there; the file is damaged or not complete");
  for (const TensorInfo& expected : tensors_of(model)) {
    const auto found = by_name.find(expected.name);
    if (found == by_name.end())
      throw_mismatch("the tensor ", name_in_file(model, format, expected.name),
                     " is missing; the file is damaged or not complete");
    if (found->second->shape != expected.shape)
      throw_mismatch(name_in_file(model, format, expected.name), " has the shape ", Json(found->second->shape).dump(),
                     ", expected ", Json(expected.shape).dump(), " from ", shape_source,
                     "; the file is damaged or belongs to another model");
    by_name.erase(found);
  }
  if (!by_name.empty())
    throw_mismatch("the tensor ", by_name.begin()->first, " has no place in this ", model.architecture,
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
    const bool is_lookup = tensor.name == "token_embd.weight" ? !model.tied : tensor.name == "position_embd.weight";
    if (tensor.shape.size() == 2 && !is_lookup) count += tensor.size();
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
