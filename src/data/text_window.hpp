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
    at_ = end_ = 0;
    ended_ = false;
  }
  void close() { reader_.reset(); }
  bool is_open() const { return reader_.has_value(); }

  /// The next bytes, without consuming them: at least `wanted`, unless the file ends before.
  std::string_view peek(std::size_t wanted) {
    while (end_ - at_ < wanted && !ended_) {
      make_room(std::max(kBlock, wanted - (end_ - at_)));
      const std::size_t num_read = reader_->read(bytes_.get() + end_, capacity_ - end_);
      ended_ = num_read < capacity_ - end_;
      end_ += num_read;
    }
    return {bytes_.get() + at_, end_ - at_};
  }

  void skip(std::size_t count) { at_ += count; }
  std::uint64_t compressed_bytes_read() const { return reader_ ? reader_->compressed_bytes_read() : 0; }
  const ByteReader& reader() const { return *reader_; }  ///< of the open file

 private:
  static constexpr std::size_t kBlock = 1 << 18;

  /// Moves the bytes not yet consumed to the front of the buffer, with space for `count` more behind them.
  void make_room(std::size_t count) {
    const std::size_t kept = end_ - at_;
    std::unique_ptr<char[]> old;
    const char* from = bytes_.get() + at_;
    if (capacity_ < kept + count) {
      capacity_ = kept + count;
      old =
          std::exchange(bytes_, std::make_unique_for_overwrite<char[]>(capacity_));  // zeros would cost as reading does
    }
    if (kept > 0) std::memmove(bytes_.get(), from, kept);
    at_ = 0, end_ = kept;
  }

  std::optional<ByteReader> reader_;
  std::unique_ptr<char[]> bytes_;
  std::size_t capacity_ = 0, at_ = 0, end_ = 0;
  bool ended_ = false;
};

}  // namespace slipway
