// A name for a model by its numbers, whatever layout or file holds them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/model/tensor_source.hpp"
#include "src/core/hash.hpp"

namespace slipway {

/// SHA-256 over tensors in name order: of each its name, a zero byte, "f32", its axes as u64, and its numbers,
/// little-endian (docs/formats/checkpoint.md, "Provenance hash").
class ProvenanceHash {
 public:
  void begin(const std::string& name, const std::vector<std::int64_t>& shape);  ///< names in ascending byte order
  void add(std::span<const float> numbers);                                     ///< row-major, in as many calls as suit
  std::string hex();

 private:
  Sha256 hash_;
};

/// The hash of all tensors of `source`. Cost: reads every weight.
std::string provenance_sha256(const TensorSource& source);

}  // namespace slipway
