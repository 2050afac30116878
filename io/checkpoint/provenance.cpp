#include "io/checkpoint/provenance.hpp"

#include <algorithm>

namespace slipway {

void ProvenanceHash::begin(const std::string& name, const std::vector<std::int64_t>& shape) {
  hash_.add(name).add("\0", 1).add("f32");
  for (const std::int64_t extent : shape) hash_.add(&extent, sizeof extent);
}

void ProvenanceHash::add(std::span<const float> values) { hash_.add(values.data(), values.size_bytes()); }

std::string ProvenanceHash::hex() { return hash_.hex(); }

std::string provenance_sha256(const TensorSource& source) {
  std::vector<TensorInfo> tensors = source.tensors();
  std::ranges::sort(tensors, {}, &TensorInfo::name);
  ProvenanceHash hash;
  std::vector<float> values;
  for (const TensorInfo& tensor : tensors) {
    values.resize(static_cast<std::size_t>(tensor.size()));
    source.read(tensor.name, values);
    hash.begin(tensor.name, tensor.shape);
    hash.add(values);
  }
  return hash.hex();
}

}  // namespace slipway
