// Reads the bytes of a file in order, decompressed if its name ends in .gz or .zst or its first bytes are gzip's or
// zstd's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>

#include "src/core/error.hpp"

namespace slipway {

enum class Compression { kNone, kGzip, kZstd };
/// The compression that a file's extension indicates: .gz, .zst, or else kNone.
Compression compression_of(const std::filesystem::path& path);

/// Reads a file from start to end within a fixed amount of memory: a quarter of a MiB, and for zstd also the frame's
/// window (8 MiB from `zstd -19`, up to 2 GiB from `zstd --ultra --long=31`). Compressed files may consist of several
/// members or frames, as `cat a.gz b.gz` and parallel compressors write them; zeros after the last gzip member, the
/// padding of tapes and block devices, are ignored.
/// Errors   `fault` naming the path: it cannot be opened or read, is no regular file, is not what its name says, or
///          ends too early.
class ByteReader {
 public:
  ByteReader(const std::filesystem::path& path, Fault fault);
  ~ByteReader();
  ByteReader(ByteReader&&) noexcept;
  ByteReader& operator=(ByteReader&&) noexcept;

  /// Reads up to `count` decompressed bytes and returns their number: fewer than `count` only at the end of the file.
  std::size_t read(char* bytes, std::size_t count);

  std::uint64_t compressed_bytes_read() const;  ///< bytes read from the disk so far, for progress
  bool skipped_zero_padding() const;            ///< zeros followed the last gzip member; valid at the end of the file
  Compression compression() const { return compression_; }

  class Decoder;  ///< one compression format

 private:
  Compression compression_ = Compression::kNone;
  std::unique_ptr<Decoder> decoder_;
};

}  // namespace slipway
