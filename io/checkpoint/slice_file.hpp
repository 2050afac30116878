// A file of tensor data, written and read back at offsets, with direct I/O where the system supports it.
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

/// Direct transfers start and end on multiples of this many bytes, in the file and in memory. io/hdf5.cpp places every
/// dataset of at least a page at such an offset.
inline constexpr std::size_t kPageBytes = 4096;

/// Bytes per write: large enough for the disk to spread them over its channels.
inline constexpr std::size_t kTransferBytes = 4 << 20;

/// Page-aligned memory, for direct transfers. Unlike a Buffer it is not zeroed, so that the thread that fills it is the
/// first to touch it.
struct FreeDeleter {
  void operator()(void* block) const { std::free(block); }
};
template <class T>
using PageAlignedPtr = std::unique_ptr<T, FreeDeleter>;
/// Allocates `count` elements of T, uninitialized; null when there is no memory.
template <class T>
PageAlignedPtr<T> allocate_page_aligned(std::size_t count) {
  const std::size_t pages = (count * sizeof(T) + kPageBytes - 1) / kPageBytes;
  return PageAlignedPtr<T>(static_cast<T*>(aligned_allocate(kPageBytes, pages * kPageBytes)));
}

/// An existing file, opened for writing at offsets. Several threads may write.
/// Errors   Fault::kStorage with the system's reason.
class SliceFile {
 public:
  explicit SliceFile(std::filesystem::path path);
  ~SliceFile();
  SliceFile(const SliceFile&) = delete;
  SliceFile& operator=(const SliceFile&) = delete;

  /// Allocates the disk space of the whole file, so that a full disk is reported before anything is written.
  void reserve(std::uint64_t bytes);

  /// Whole pages go to the disk directly when `bytes` and `offset` lie on a page, the rest through the page cache.
  void write(const char* bytes, std::size_t count, std::uint64_t offset);

  /// Syncs the file to the disk and closes it.
  void close();

 private:
  [[noreturn]] void fail(const char* verb) const;
  std::filesystem::path path_;
  int fd_ = -1;
  int direct_fd_ = -1;
  std::atomic<bool> supports_direct_{false};  ///< the file system and the disk support direct transfers
};

/// A part of a file: `bytes` bytes from `offset` on.
struct FileRange {
  std::uint64_t offset = 0, bytes = 0;
};

/// XXH3 of a file as the disk holds it, and of ranges of it.
struct FileHashes {
  std::string file;
  std::vector<std::string> ranges;  ///< in the order of the argument
};

/// Reads a file that was just synced, once, and hashes both the whole file and each of `ranges`, which do not overlap.
/// Where direct reads are not supported, its pages are dropped from the cache first. Uses read() rather than mmap, so
/// that an I/O error throws instead of raising SIGBUS.
/// Errors   Fault::kStorage with the system's reason; a file that ends early is no error, but has other hashes.
FileHashes hash_on_disk(const std::filesystem::path& path, std::span<const FileRange> ranges);

}  // namespace slipway
