// A file of numbers, written and read back at offsets, past the page cache where the system lets it.
//
// A save runs concurrently with training, and its cost to training is CPU time: a write through the page cache copies
// every byte and makes the kernel clear and write back a page for it, while direct I/O hands the memory to the disk.
// A direct read also returns what is on the disk, where a cached read may return what is in memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/core/memory_space.hpp"

namespace slipway {

/// Direct transfers start and end on multiples of this many bytes, in the file and in memory. io/hdf5.cpp places all
/// numbers that fill a page on one.
inline constexpr std::size_t kPageBytes = 4096;

/// Given to the disk at once: it spreads them over its channels.
inline constexpr std::size_t kTransferBytes = 4 << 20;

/// Memory on a page, for direct transfers. Unlike a Buffer's it is not zeroed: who fills it is the first to touch it.
struct FreeBlock {
  void operator()(void* block) const { std::free(block); }
};
template <class T>
using PageBlock = std::unique_ptr<T, FreeBlock>;
/// For `count` of T; null when there is no memory.
template <class T>
PageBlock<T> page_block(std::size_t count) {
  const std::size_t pages = (count * sizeof(T) + kPageBytes - 1) / kPageBytes;
  return PageBlock<T>(static_cast<T*>(aligned_block(kPageBytes, pages * kPageBytes)));
}

/// A file that exists, opened for writing at offsets. Several threads may write.
/// Errors   Fault::kStorage with the system's reason.
class SliceFile {
 public:
  explicit SliceFile(std::filesystem::path path);
  ~SliceFile();
  SliceFile(const SliceFile&) = delete;
  SliceFile& operator=(const SliceFile&) = delete;

  /// Claims the space of the whole file, so that a full disk shows before anything is written.
  void reserve(std::uint64_t bytes);

  /// Whole pages go to the disk directly when `bytes` and `offset` lie on a page, the rest through the page cache.
  void write(const char* bytes, std::size_t count, std::uint64_t offset);

  /// Makes all of it durable.
  void close();

 private:
  [[noreturn]] void fail(const char* verb) const;
  std::filesystem::path path_;
  int cached_ = -1;
  int direct_ = -1;
  std::atomic<bool> is_direct_{false};  ///< where the file system and the disk have direct transfers
};

/// A part of a file: so many bytes from `offset` on.
struct FileRange {
  std::uint64_t offset = 0, bytes = 0;
};

/// XXH3 of a file as the disk holds it, and of ranges of it.
struct HashesOnDisk {
  std::string file;
  std::vector<std::string> ranges;  ///< in the order in which they were given
};

/// Reads a file that was just synced, once, and hashes it whole and by `ranges`, which do not overlap. Where direct
/// reads are not to be had, its pages are dropped from the cache first. An I/O error is a sentence, not a map's SIGBUS.
/// Errors   Fault::kStorage with the system's reason; a file that ends early only gives other hashes.
HashesOnDisk hash_on_disk(const std::filesystem::path& path, std::span<const FileRange> ranges);

}  // namespace slipway
