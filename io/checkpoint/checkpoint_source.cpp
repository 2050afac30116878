#include "io/checkpoint/checkpoint_source.hpp"

namespace slipway {

std::vector<TensorInfo> CheckpointSource::tensors() const {
  std::vector<TensorInfo> infos;
  for (const StoredTensor& tensor : reader_.tensors())
    if (tensor.kind == "value") infos.push_back({tensor.name, tensor.shape});
  return infos;
}

void CheckpointSource::read(const std::string& name, std::span<float> out) const {
  const StoredTensor* tensor = reader_.find(name);
  if (tensor == nullptr)
    throw Error(Fault::kStorage, join("checkpoint ", reader_.folder().string(), " has no tensor ", name));
  const Slice slice = full_slice(name, "value", tensor->shape);
  require(out.size() == static_cast<std::size_t>(slice.size()),
          join("CheckpointSource::read of ", name, " into another size"));
  reader_.read(slice, out.data(), slice.extent[1]);
}

}  // namespace slipway
