// Constants of the GGUF format, shared by reader and writer.
#pragma once

#include <cstdint>
#include <string_view>

namespace slipway::gguf_layout {

inline constexpr std::string_view kMagic = "GGUF";
inline constexpr std::uint32_t kVersion = 3;
inline constexpr std::uint64_t kAlignment = 32;  // of each tensor's data, unless general.alignment says otherwise
inline constexpr std::uint64_t kMaxName = 63;    // bytes of a tensor's name: ggml keeps 64 with the terminator
inline constexpr std::uint64_t kMaxKey = 65535;  // the specification's limit
inline constexpr std::uint32_t kMaxDimensions = 4;
inline constexpr std::uint32_t kArray = 9;  // the two value types that are not scalars
inline constexpr std::uint32_t kString = 8;

constexpr std::uint64_t round_up(std::uint64_t offset, std::uint64_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

}  // namespace slipway::gguf_layout
