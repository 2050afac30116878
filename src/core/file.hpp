// Files: whole reads, atomic replacement, durable writes, memory maps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "src/core/error.hpp"

namespace slipway {

/// The file's bytes. Errors: `fault`, naming the path and the system's reason.
std::string read_file(const std::filesystem::path& path, Fault fault);

/// Writes `bytes` to a temporary sibling, fsyncs it, renames it over `path`, fsyncs the folder:
/// a crash leaves the old file or the new one, never a part. Errors: Fault::kStorage.
void atomic_write_file(const std::filesystem::path& path, std::string_view bytes);

/// Opens a temporary sibling, lets `write` fill it by its path, then publishes as atomic_write_file does.
/// The temporary is removed when `write` throws.
void atomic_write_file_with(const std::filesystem::path& path,
                            const std::function<void(const std::filesystem::path& temporary)>& write);

/// Makes a file's bytes, or a folder's entries, survive a power cut. Errors: Fault::kStorage.
void sync_path(const std::filesystem::path& path);

/// A buffered writer that reports every failure (a full disk, an I/O error) in one sentence.
/// Nothing is durable until close(), which fsyncs.
class FileWriter {
 public:
  explicit FileWriter(const std::filesystem::path& path);  ///< creates or empties the file
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(const void* bytes, std::size_t count);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void flush();                                         ///< writes the buffer to the file
  void close();                                         ///< flush, fsync, close; the destructor only closes
  std::uint64_t position() const { return position_; }  ///< bytes written so far

 private:
  [[noreturn]] void throw_errno(std::string_view call) const;
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t position_ = 0;
  std::string buffer_;
};

/// A file mapped for reading; pages come in as they are touched.
class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(const std::filesystem::path& path, Fault fault);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  /// Drops the pages read so far from this process's memory; they are mapped again when they are read again.
  void release_pages() const;
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Bytes free for this user on the disk that holds `path` (or its nearest existing parent).
std::uint64_t free_bytes(const std::filesystem::path& path);

}  // namespace slipway
