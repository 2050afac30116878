// Element types of model files, and encoding of f32 rows in them: f16, bf16, and blocks of 8 and 4 bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace slipway {

/// A tensor's type in a file; the values are those of ggml_type.
enum class TensorType : std::uint32_t { kF32 = 0, kF16 = 1, kQ4_0 = 2, kQ8_0 = 8, kBf16 = 30 };

std::string_view name(TensorType type);              ///< "f32", "f16", "q4_0", "q8_0", "bf16"
TensorType tensor_type_of(const std::string& name);  ///< Errors: Fault::kConfig listing the five
constexpr std::int64_t block_elements(TensorType type) {
  return type == TensorType::kQ8_0 || type == TensorType::kQ4_0 ? 32 : 1;
}
std::int64_t block_bytes(TensorType type);
/// Whether rows of `cols` elements hold whole blocks.
constexpr bool fits(TensorType type, std::int64_t cols) { return cols % block_elements(type) == 0; }
std::int64_t bytes_of(TensorType type, std::int64_t elements);  ///< Errors: Fault::kBug for an incomplete block

/// The largest magnitude that is finite when stored.
float largest_magnitude(TensorType type);

/// Encodes `values`, a whole number of blocks, into `bytes`.
///
/// Precision Byte-equal to ggml's reference quantizers for finite values. f16 and bf16: nearest, ties to even.
///          Q8_0: f16 d = amax / 127 and 32 signed bytes round-half-away(x / d). Q4_0: f16 d = (the entry of largest
///          magnitude) / -8 and 32 nibbles min(15, trunc(x / d + 8.5)), element j low and j + 16 high in byte j.
///          `x / d` is a multiplication by the f32 reciprocal of the f32 d, as in ggml.
/// Errors   Fault::kBug when sizes disagree.
/// Cost     Threads share the blocks; the bytes do not depend on their number.
/// Source   ggml-quants.c, quantize_row_q8_0_ref and quantize_row_q4_0_ref; docs/formats/gguf.md.
void encode(TensorType type, std::span<const float> values, std::span<std::byte> bytes);

/// Splits blocks of Q8_0 into values and scales, as the quantized matmuls read them (kernels/quantized.hpp).
/// Shapes   blocks [n], values [32 n], scales [n]. Errors: as encode.
void split_q8_0(std::span<const std::byte> blocks, std::span<std::int8_t> values, std::span<float> scales);

/// Decodes `bytes` exactly. Errors and Cost as encode.
void decode(TensorType type, std::span<const std::byte> bytes, std::span<float> values);

}  // namespace slipway
