// The weights of a checkpoint as a TensorSource.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_reader.hpp"
#include "io/model/tensor_source.hpp"

namespace slipway {

/// The "value" tensors of a checkpoint, without optimizer moments.
class CheckpointSource : public TensorSource {
 public:
  explicit CheckpointSource(CheckpointReader& reader) : reader_(reader) {}  ///< borrows

  std::vector<TensorInfo> tensors() const override;
  void read(const std::string& name, std::span<float> out) const override;

 private:
  CheckpointReader& reader_;
};

}  // namespace slipway
