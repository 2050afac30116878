// A hash that identifies a model's weights, independent of layout and file format.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/model/tensor_source.hpp"
#include "src/core/hash.hpp"

namespace slipway {

/// SHA-256 over tensors in name order: of each its name, a zero byte, "f32", its axes as u64, and its elements,
/// little-endian (docs/formats/checkpoint.md, "Provenance hash").
class ProvenanceHash {
 public:
  void begin(const std::string& name, const std::vector<std::int64_t>& shape);  ///< names in ascending byte order
  void add(std::span<const float> values);                                      ///< row-major, in any number of calls
  std::string hex();

 private:
  Sha256 hash_;
};

/// The hash of all tensors of `source`. Cost: reads every weight.
std::string provenance_sha256(const TensorSource& source);

}  // namespace slipway
