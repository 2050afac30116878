// Compresses text in gzip's format.
#pragma once

#include <zlib.h>

#include <string>

namespace slipway::test {

inline std::string gzip(const std::string& text) {
  constexpr int kLevel = 6, kGzipWindow = 15 + 16, kMemory = 8;  // zlib's defaults; 16 more: gzip's header
  z_stream stream{};
  deflateInit2(&stream, kLevel, Z_DEFLATED, kGzipWindow, kMemory, Z_DEFAULT_STRATEGY);
  std::string packed(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  deflate(&stream, Z_FINISH);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

}  // namespace slipway::test
