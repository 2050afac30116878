#include "io/model/block_quant.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "src/core/dtype.hpp"
#include "src/core/error.hpp"

namespace slipway {
namespace {

constexpr int kBlockSize = 32;  // elements that share a scale in Q8_0 and Q4_0
constexpr float kF16Max = 65504.0f;
constexpr std::int64_t kTaskElements = 4096;  // per task of a thread: whole blocks, small enough for its cache

struct BlockQ8 {
  std::uint16_t scale;
  std::int8_t quants[kBlockSize];
};
struct BlockQ4 {
  std::uint16_t scale;
  std::uint8_t quants[kBlockSize / 2];
};
static_assert(sizeof(BlockQ8) == 34 && sizeof(BlockQ4) == 18, "blocks lie in files as they lie in memory");

/// 1 / d as in the reference. Below d = 2^-128 the reciprocal is infinite and the reference's quants are
/// undefined; the stored f16 scale is zero there anyway.
float reciprocal(float d) {
  const float inverse = d == 0.0f ? 0.0f : 1.0f / d;
  return std::isfinite(inverse) ? inverse : 0.0f;
}

float round_half_away(float value) {
  const float magnitude = std::fabs(value);
  const float floor = std::floor(magnitude);
  const float half_up = magnitude - floor >= 0.5f ? 1.0f : 0.0f;  // the difference is exact; magnitude + 0.5 is not
  return std::copysign(floor + half_up, value);
}

/// The largest magnitude of a block.
float block_amax(const float* x) {
  float amax = 0.0f;
#pragma omp simd reduction(max : amax)  // allows the compiler to reorder the maximum and vectorize
  for (int j = 0; j < kBlockSize; ++j) amax = std::max(amax, std::fabs(x[j]));
  return amax;
}

void encode_block(const float* x, BlockQ8& block) {
  const float amax = block_amax(x);
  const float d = amax / 127.0f;
  const float inverse = reciprocal(d);
  for (int j = 0; j < kBlockSize; ++j) block.quants[j] = static_cast<std::int8_t>(round_half_away(x[j] * inverse));
  block.scale = to_f16_bits(d);
}

void encode_block(const float* x, BlockQ4& block) {
  const float amax = block_amax(x);
  const float* first = std::find_if(x, x + kBlockSize, [&](float value) { return std::fabs(value) == amax; });
  const float extreme = first == x + kBlockSize ? 0.0f : *first;  // with its sign; 0 where all are NaN
  const float d = extreme / -8.0f;
  const float inverse = reciprocal(d);
  const auto quant = [inverse](float value) {
    const float scaled = value * inverse;  // rounded before the addition: an FMA would round differently
    return static_cast<std::uint8_t>(std::min(15, static_cast<int>(scaled + 8.5f)));
  };
  constexpr int kHalf = kBlockSize / 2;
  for (int j = 0; j < kHalf; ++j) block.quants[j] = static_cast<std::uint8_t>(quant(x[j]) | (quant(x[j + kHalf]) << 4));
  block.scale = to_f16_bits(d);
}

void decode_block(const BlockQ8& block, float* x) {
  const float d = f16_to_f32(block.scale);
  for (int j = 0; j < kBlockSize; ++j) x[j] = d * static_cast<float>(block.quants[j]);
}

void decode_block(const BlockQ4& block, float* x) {
  const float d = f16_to_f32(block.scale);
  constexpr int kHalf = kBlockSize / 2;
  for (int j = 0; j < kHalf; ++j) {
    x[j] = d * static_cast<float>(static_cast<int>(block.quants[j] & 15) - 8);
    x[j + kHalf] = d * static_cast<float>(static_cast<int>(block.quants[j] >> 4) - 8);
  }
}

/// Values in a file may be unaligned, so each is copied with memcpy.
template <class Stored, class Convert>
void encode_each(const float* x, std::byte* bytes, std::int64_t count, Convert convert) {
  for (std::int64_t i = 0; i < count; ++i) {
    const Stored stored = convert(x[i]);
    std::memcpy(bytes + i * static_cast<std::int64_t>(sizeof stored), &stored, sizeof stored);
  }
}

template <class Stored, class Convert>
void decode_each(const std::byte* bytes, float* x, std::int64_t count, Convert convert) {
  for (std::int64_t i = 0; i < count; ++i) {
    Stored stored;
    std::memcpy(&stored, bytes + i * static_cast<std::int64_t>(sizeof stored), sizeof stored);
    x[i] = convert(stored);
  }
}

/// Converts eight values at a time with F16C, with the same bits as the scalar code; a group with a NaN (in decode_f16
/// also an infinity) is converted value by value.
void encode_f16(const float* x, std::byte* bytes, std::int64_t count) {
  std::int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= count; i += 8) {
    const __m256 values = _mm256_loadu_ps(x + i);
    if (_mm256_movemask_ps(_mm256_cmp_ps(values, values, _CMP_UNORD_Q)) != 0)
      encode_each<std::uint16_t>(x + i, bytes + 2 * i, 8, to_f16_bits);
    else
      _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes + 2 * i),
                       _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
#endif
  encode_each<std::uint16_t>(x + i, bytes + 2 * i, count - i, to_f16_bits);
}

void decode_f16(const std::byte* bytes, float* x, std::int64_t count) {
  std::int64_t i = 0;
#if defined(__F16C__)
  const __m128i exponent = _mm_set1_epi16(0x7c00);
  for (; i + 8 <= count; i += 8) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + 2 * i));
    if (_mm_movemask_epi8(_mm_cmpeq_epi16(_mm_and_si128(halves, exponent), exponent)) != 0)
      decode_each<std::uint16_t>(bytes + 2 * i, x + i, 8, f16_to_f32);
    else _mm256_storeu_ps(x + i, _mm256_cvtph_ps(halves));
  }
#endif
  decode_each<std::uint16_t>(bytes + 2 * i, x + i, count - i, f16_to_f32);
}

template <class Block>
void encode_blocks(const float* x, std::byte* bytes, std::int64_t count) {
  for (std::int64_t b = 0; b < count / kBlockSize; ++b) {
    Block block;
    encode_block(x + b * kBlockSize, block);
    std::memcpy(bytes + b * static_cast<std::int64_t>(sizeof block), &block, sizeof block);
  }
}

template <class Block>
void decode_blocks(const std::byte* bytes, float* x, std::int64_t count) {
  for (std::int64_t b = 0; b < count / kBlockSize; ++b) {
    Block block;
    std::memcpy(&block, bytes + b * static_cast<std::int64_t>(sizeof block), sizeof block);
    decode_block(block, x + b * kBlockSize);
  }
}

void encode_chunk(TensorType type, const float* x, std::byte* bytes, std::int64_t count) {
  switch (type) {
    case TensorType::kF32: std::memcpy(bytes, x, static_cast<std::size_t>(count) * sizeof(float)); return;
    case TensorType::kF16: encode_f16(x, bytes, count); return;
    case TensorType::kBf16: encode_each<Bf16>(x, bytes, count, to_bf16); return;
    case TensorType::kQ8_0: encode_blocks<BlockQ8>(x, bytes, count); return;
    case TensorType::kQ4_0: encode_blocks<BlockQ4>(x, bytes, count); return;
  }
}

void decode_chunk(TensorType type, const std::byte* bytes, float* x, std::int64_t count) {
  switch (type) {
    case TensorType::kF32: std::memcpy(x, bytes, static_cast<std::size_t>(count) * sizeof(float)); return;
    case TensorType::kF16: decode_f16(bytes, x, count); return;
    case TensorType::kBf16: decode_each<Bf16>(bytes, x, count, [](Bf16 value) { return to_f32(value); }); return;
    case TensorType::kQ8_0: decode_blocks<BlockQ8>(bytes, x, count); return;
    case TensorType::kQ4_0: decode_blocks<BlockQ4>(bytes, x, count); return;
  }
}

/// Calls `work(first element, elements)` for every chunk, on all threads.
template <class Work>
void for_each_chunk(std::int64_t elements, Work&& work) {
  const std::int64_t chunks = (elements + kTaskElements - 1) / kTaskElements;
#pragma omp parallel for schedule(static) if (chunks > 1)
  for (std::int64_t c = 0; c < chunks; ++c)
    work(c * kTaskElements, std::min(kTaskElements, elements - c * kTaskElements));
}

}  // namespace

std::string_view name(TensorType type) {
  switch (type) {
    case TensorType::kF32: return "f32";
    case TensorType::kF16: return "f16";
    case TensorType::kQ4_0: return "q4_0";
    case TensorType::kQ8_0: return "q8_0";
    case TensorType::kBf16: return "bf16";
  }
  return "unknown";
}

TensorType tensor_type_of(const std::string& type_name) {
  for (const TensorType type :
       {TensorType::kF32, TensorType::kF16, TensorType::kBf16, TensorType::kQ8_0, TensorType::kQ4_0})
    if (name(type) == type_name) return type;
  throw Error(Fault::kConfig, join("the type '", type_name, "' is not known; take f32, f16, bf16, q8_0 or q4_0"));
}

std::int64_t block_bytes(TensorType type) {
  switch (type) {
    case TensorType::kF32: return 4;
    case TensorType::kF16:
    case TensorType::kBf16: return 2;
    case TensorType::kQ8_0: return sizeof(BlockQ8);
    case TensorType::kQ4_0: return sizeof(BlockQ4);
  }
  return 0;
}

std::int64_t bytes_of(TensorType type, std::int64_t elements) {
  require(fits(type, elements), "bytes_of: the elements do not fill whole blocks");
  return elements / block_elements(type) * block_bytes(type);
}

float largest_magnitude(TensorType type) {
  switch (type) {
    case TensorType::kF32: return std::numeric_limits<float>::max();
    case TensorType::kBf16: return 0x1.fep127f;  // the largest finite bf16
    case TensorType::kF16: return kF16Max;
    case TensorType::kQ8_0: return 127.0f * kF16Max;
    case TensorType::kQ4_0: return 8.0f * kF16Max;
  }
  return 0.0f;
}

void encode(TensorType type, std::span<const float> values, std::span<std::byte> bytes) {
  const auto elements = static_cast<std::int64_t>(values.size());
  require(static_cast<std::int64_t>(bytes.size()) == bytes_of(type, elements),
          "encode: the bytes do not fit the values");
  for_each_chunk(elements, [&](std::int64_t first, std::int64_t count) {
    encode_chunk(type, values.data() + first, bytes.data() + bytes_of(type, first), count);
  });
}

void decode(TensorType type, std::span<const std::byte> bytes, std::span<float> values) {
  const auto elements = static_cast<std::int64_t>(values.size());
  require(static_cast<std::int64_t>(bytes.size()) == bytes_of(type, elements),
          "decode: the bytes do not fit the values");
  for_each_chunk(elements, [&](std::int64_t first, std::int64_t count) {
    decode_chunk(type, bytes.data() + bytes_of(type, first), values.data() + first, count);
  });
}

void split_q8_0(std::span<const std::byte> blocks, std::span<std::int8_t> values, std::span<float> scales) {
  require(blocks.size() == scales.size() * sizeof(BlockQ8) && values.size() == scales.size() * kBlockSize,
          "split_q8_0: the sizes disagree");
  for (std::size_t b = 0; b < scales.size(); ++b) {
    BlockQ8 block;
    std::memcpy(&block, blocks.data() + b * sizeof block, sizeof block);
    std::copy_n(block.quants, kBlockSize, values.data() + b * kBlockSize);
    scales[b] = f16_to_f32(block.scale);
  }
}

}  // namespace slipway
