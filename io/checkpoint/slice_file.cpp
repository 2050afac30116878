#include "io/checkpoint/slice_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <numeric>
#include <utility>

#include "src/core/error.hpp"
#include "src/core/hash.hpp"

namespace slipway {
namespace {

constexpr std::size_t kReadBytes = 1 << 20;         // per read of hash_on_disk()
constexpr std::size_t kHashChunkBytes = 256 << 10;  // hashed twice while it is in a core's private cache

/// Opens with O_DIRECT; -1 where the file system does not support it (tmpfs of older kernels, for example).
int open_direct(const std::filesystem::path& path, int access) {
  return ::open(path.c_str(), access | O_DIRECT | O_CLOEXEC);
}

bool is_page_aligned(std::uint64_t offset) { return offset % kPageBytes == 0; }

/// Hashes ranges of a file from its bytes, which are added in file order.
class RangeHashes {
 public:
  explicit RangeHashes(std::span<const FileRange> ranges)
      : ranges_(ranges), order_(ranges.size()), hashes_(ranges.size()) {
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    std::ranges::sort(order_, {}, [&](std::size_t i) { return ranges[i].offset; });
    range_hash_ = std::make_unique<Xxh3>();
  }

  void add(const char* bytes, std::size_t count, std::uint64_t offset) {
    for (; next_ < order_.size(); ++next_) {
      const FileRange& range = ranges_[order_[next_]];
      const std::uint64_t first = std::max(range.offset, offset),
                          last = std::min(range.offset + range.bytes, offset + count);
      if (first < last) range_hash_->add(bytes + (first - offset), last - first);
      if (range.offset + range.bytes > offset + count) return;  // the range continues or begins in the next bytes
      end_range();
    }
  }

  std::vector<std::string> finish() {
    for (; next_ < order_.size(); ++next_) end_range();
    return std::move(hashes_);
  }

 private:
  void end_range() {
    hashes_[order_[next_]] = range_hash_->hex();
    range_hash_ = std::make_unique<Xxh3>();
  }

  std::span<const FileRange> ranges_;
  std::vector<std::size_t> order_;  ///< indices of the ranges, by ascending offset
  std::vector<std::string> hashes_;
  std::unique_ptr<Xxh3> range_hash_;  ///< of the bytes so far of the range at `next_`
  std::size_t next_ = 0;              ///< index into `order_`
};

/// A file opened for one sequential read that bypasses the page cache where possible.
class DiskFile {
 public:
  explicit DiskFile(const std::filesystem::path& path)
      : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), direct_fd_(open_direct(path, O_RDONLY)) {
    if (fd_ < 0) fail();
    ::posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
  }
  ~DiskFile() {
    for (const int descriptor : {fd_, direct_fd_})
      if (descriptor >= 0) ::close(descriptor);
  }
  DiskFile(const DiskFile&) = delete;
  DiskFile& operator=(const DiskFile&) = delete;

  /// Returns the number of bytes read; 0 at the end of the file.
  std::size_t read(char* block, std::size_t count, std::uint64_t offset) {
    while (true) {
      const bool direct = direct_fd_ >= 0 && is_page_aligned(offset);
      const ssize_t done = ::pread(direct ? direct_fd_ : fd_, block, count, static_cast<off_t>(offset));
      if (done >= 0) return static_cast<std::size_t>(done);
      if (errno == EINTR) continue;
      if (!direct || errno != EINVAL) fail();
      ::close(std::exchange(direct_fd_, -1));
    }
  }

 private:
  [[noreturn]] void fail() const {
    throw Error(Fault::kStorage, join("cannot read back ", path_.string(), ": ", errno_message()));
  }
  std::filesystem::path path_;
  int fd_;
  int direct_fd_;
};

}  // namespace

SliceFile::SliceFile(std::filesystem::path path)
    : path_(std::move(path)), fd_(::open(path_.c_str(), O_WRONLY | O_CLOEXEC)) {
  if (fd_ < 0) fail("open");
  direct_fd_ = open_direct(path_, O_WRONLY);
  supports_direct_ = direct_fd_ >= 0;
}

SliceFile::~SliceFile() {
  for (const int descriptor : {fd_, direct_fd_})
    if (descriptor >= 0) ::close(descriptor);
}

void SliceFile::reserve(std::uint64_t bytes) {
  if (::fallocate(fd_, 0, 0, static_cast<off_t>(bytes)) != 0 && errno != EOPNOTSUPP && errno != ENOSYS)
    fail("reserve space for");
}

void SliceFile::write(const char* bytes, std::size_t count, std::uint64_t offset) {
  while (count > 0) {
    const std::size_t pages = std::min(count, kTransferBytes) / kPageBytes * kPageBytes;
    const bool direct = supports_direct_ && pages > 0 && is_page_aligned(offset) &&
                        is_page_aligned(reinterpret_cast<std::uintptr_t>(bytes));
    const ssize_t done = ::pwrite(direct ? direct_fd_ : fd_, bytes, direct ? pages : std::min(count, kTransferBytes),
                                  static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0 && direct && errno == EINVAL) {  // a disk with another block size
      supports_direct_ = false;
      continue;
    }
    if (done == 0) errno = ENOSPC;  // to avoid an endless loop
    if (done <= 0) fail("write");
    if (!supports_direct_)  // starts the disk write while the next piece is copied; only a hint: close() syncs
      ::sync_file_range(fd_, static_cast<off_t>(offset), done, SYNC_FILE_RANGE_WRITE);
    bytes += done;
    count -= static_cast<std::size_t>(done);
    offset += static_cast<std::uint64_t>(done);
  }
}

void SliceFile::close() {
  if (direct_fd_ >= 0) ::close(std::exchange(direct_fd_, -1));
  if (::fsync(fd_) != 0) fail("fsync");
  if (::close(std::exchange(fd_, -1)) != 0) fail("close");
}

void SliceFile::fail(const char* verb) const {
  throw Error(Fault::kStorage, join("cannot ", verb, " ", path_.string(), ": ", errno_message()));
}

FileHashes hash_on_disk(const std::filesystem::path& path, std::span<const FileRange> ranges) {
  DiskFile file(path);
  const PageAlignedPtr<char> block = allocate_page_aligned<char>(kReadBytes);
  require(block != nullptr, "no memory to read a checkpoint back");
  char* const bytes = block.get();
  Xxh3 file_hash;
  RangeHashes range_hashes(ranges);
  std::uint64_t offset = 0;
  while (const std::size_t count = file.read(bytes, kReadBytes, offset)) {
    for (std::size_t chunk_offset = 0; chunk_offset < count; chunk_offset += kHashChunkBytes) {
      const std::size_t chunk = std::min(kHashChunkBytes, count - chunk_offset);
      file_hash.add(bytes + chunk_offset, chunk);
      range_hashes.add(bytes + chunk_offset, chunk, offset + chunk_offset);
    }
    offset += count;
  }
  return {file_hash.hex(), range_hashes.finish()};
}

}  // namespace slipway
