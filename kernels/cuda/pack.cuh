// Eight adjacent elements of a row, which a GPU thread reads and writes in 16-byte words (one of 8 for bytes), the
// widest memory access.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "kernels/cuda/launch.cuh"
#include "kernels/row.hpp"

namespace slipway::cuda {

inline constexpr int kPack = 8;

/// The type that formulas compute in for the elements of a row.
template <class Row>
using ComputeTypeOf = ComputeType<typename RowTraits<Row>::Element>;

template <class Row>
using WordType = std::conditional_t<sizeof(typename RowTraits<Row>::Element) == 1, uint2, uint4>;

template <class Row>
__device__ __forceinline__ bool is_pack_aligned(Row row) {
  return reinterpret_cast<std::uintptr_t>(RowTraits<Row>::data(row)) % sizeof(WordType<Row>) == 0;
}

/// As ElementRef (kernels/row.hpp), for eight elements that begin at a word boundary.
template <class Row>
class Pack {
  using Traits = RowTraits<Row>;
  using Element = typename Traits::Element;
  using Word = WordType<Row>;
  static constexpr int kWords = static_cast<int>(kPack * sizeof(Element) / sizeof(Word));

 public:
  __device__ __forceinline__ Pack(Row row, int first) : address_(Traits::data(row) + first) {
    if constexpr (Traits::kRead) {
      Word words[kWords];
#pragma unroll
      for (int w = 0; w < kWords; ++w) words[w] = load_word(address_, w);
      Element elements[kPack];
      std::memcpy(elements, words, sizeof words);
#pragma unroll
      for (int k = 0; k < kPack; ++k) values_[k] = to_compute_type(elements[k]);
    }
  }
  __device__ __forceinline__ ~Pack() {
    if constexpr (Traits::kWritten) {
      Element elements[kPack];
#pragma unroll
      for (int k = 0; k < kPack; ++k) elements[k] = to_storage_type<Element>(values_[k]);
      Word words[kWords];
      std::memcpy(words, elements, sizeof words);
#pragma unroll
      for (int w = 0; w < kWords; ++w) store_word(address_, w, words[w]);
    }
  }
  Pack(const Pack&) = delete;
  Pack& operator=(const Pack&) = delete;
  __device__ __forceinline__ ComputeType<Element>& element(int k) { return values_[k]; }

 private:
#if defined(__CUDACC__)
  __device__ static Word load_word(const void* address, int w) { return static_cast<const Word*>(address)[w]; }
  __device__ static void store_word(void* address, int w, Word word) { static_cast<Word*>(address)[w] = word; }
#else  // memcpy, since a host compiler assumes strict aliasing
  static void check_alignment(const void* address) {
    if (reinterpret_cast<std::uintptr_t>(address) % sizeof(Word) != 0)
      cuda_emulation::report_and_abort("a word is read or written off its boundary");
  }
  static Word load_word(const void* address, int w) {
    check_alignment(address);
    Word word;
    std::memcpy(&word, static_cast<const char*>(address) + w * sizeof word, sizeof word);
    return word;
  }
  static void store_word(void* address, int w, Word word) {
    check_alignment(address);
    std::memcpy(static_cast<char*>(address) + w * sizeof word, &word, sizeof word);
  }
#endif

  decltype(Traits::data(Row{})) address_;
  ComputeType<Element> values_[kPack];
};

}  // namespace slipway::cuda
