// Named tensors, read on demand: the interface of checkpoints, GGUFs, safetensors files and live models.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/model/block_quant.hpp"

namespace slipway {

/// A tensor by its canonical name, which inside Slipway is GGUF's: "blk.0.attn_q.weight".
struct TensorInfo {
  std::string name;
  std::vector<std::int64_t> shape;  ///< rows, columns of a matrix; the length of a vector

  std::int64_t cols() const { return shape.back(); }
  std::int64_t size() const {
    std::int64_t elements = 1;
    for (const std::int64_t length : shape) elements *= length;
    return elements;
  }
  std::int64_t rows() const { return size() / cols(); }
  bool operator==(const TensorInfo&) const = default;
};

/// Named f32 tensors, read on demand.
///
/// The rows of attn_q and attn_k are in Hugging Face's order (RoPE rotates halves) for every architecture.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual std::vector<TensorInfo> tensors() const = 0;
  /// Fills `out`, row after row. Errors: Fault::kStorage for a missing tensor; Fault::kBug when `out` has
  /// another size.
  virtual void read(const std::string& name, std::span<float> out) const = 0;

  /// The type in which the file stores a tensor. The default is f32 and does not check that the tensor exists.
  virtual TensorType stored_type(const std::string&) const { return TensorType::kF32; }
  /// The stored bytes of a tensor, rows in the order of read(). Errors: as read(), and Fault::kBug for a source that
  /// stores everything as f32.
  virtual void read_stored(const std::string& name, std::span<std::byte> out) const;
};

}  // namespace slipway
