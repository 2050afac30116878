// Sequential reading of a file with look-ahead.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "io/data/compressed.hpp"

namespace slipway {

/// A look-ahead window over a file's bytes: no larger than one document or row needs. Its memory is reused by file
/// after file.
class TextWindow {
 public:
  void open(const std::filesystem::path& path) {
    reader_.emplace(path, Fault::kData);
    begin_ = end_ = 0;
    eof_ = false;
  }
  void close() { reader_.reset(); }
  bool is_open() const { return reader_.has_value(); }

  /// The next bytes, without consuming them: at least `min_bytes`, unless the file ends before.
  std::string_view peek(std::size_t min_bytes) {
    while (end_ - begin_ < min_bytes && !eof_) {
      reserve(std::max(kReadBytes, min_bytes - (end_ - begin_)));
      const std::size_t num_read = reader_->read(bytes_.get() + end_, capacity_ - end_);
      eof_ = num_read < capacity_ - end_;
      end_ += num_read;
    }
    return {bytes_.get() + begin_, end_ - begin_};
  }

  void skip(std::size_t count) { begin_ += count; }
  std::uint64_t compressed_bytes_read() const { return reader_ ? reader_->compressed_bytes_read() : 0; }
  const ByteReader& reader() const { return *reader_; }  ///< of the open file

 private:
  static constexpr std::size_t kReadBytes = 1 << 18;

  /// Moves the bytes not yet consumed to the front of the buffer, with space for `count` more behind them.
  void reserve(std::size_t count) {
    const std::size_t remaining = end_ - begin_;
    std::unique_ptr<char[]> old;
    const char* source = bytes_.get() + begin_;
    if (capacity_ < remaining + count) {
      capacity_ = remaining + count;
      old =
          std::exchange(bytes_, std::make_unique_for_overwrite<char[]>(capacity_));  // zeros would cost as reading does
    }
    if (remaining > 0) std::memmove(bytes_.get(), source, remaining);
    begin_ = 0, end_ = remaining;
  }

  std::optional<ByteReader> reader_;
  std::unique_ptr<char[]> bytes_;
  std::size_t capacity_ = 0, begin_ = 0, end_ = 0;
  bool eof_ = false;
};

}  // namespace slipway
