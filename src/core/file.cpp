#include "src/core/file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace slipway {
namespace {

constexpr std::size_t kBufferBytes = 1 << 20;  // large enough to make the cost of a system call negligible

/// Advice for the error of the last failed system call; empty where the reason is enough.
std::string_view hint() {
  switch (errno) {
    case EFBIG: return "; this shell limits the size of files: raise ulimit -f, or write less";
    case ENOSPC: return "; make room, or write to another disk";
    case EDQUOT: return "; remove files of yours there, or write to another disk";
    default: return "";
  }
}

[[noreturn]] void throw_errno(Fault fault, std::string_view verb, const std::filesystem::path& path) {
  throw Error(fault, join("cannot ", verb, " ", path.string(), ": ", errno_message(), hint()));
}

/// A file descriptor that closes itself.
struct FileDescriptor {
  int value = -1;
  ~FileDescriptor() {
    if (value >= 0) ::close(value);
  }
};

/// Appends bytes to the file, whose size is `offset`.
void append(int descriptor, const std::filesystem::path& path, std::string_view bytes, std::uint64_t offset) {
  const std::size_t total_bytes = bytes.size();
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count == 0) errno = ENOSPC;  // avoids an endless loop
    if (count <= 0) throw_errno(Fault::kStorage, "write", path);
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  if (total_bytes >= kBufferBytes)  // starts the disk write early; only a hint: fsync makes the bytes durable
    ::sync_file_range(descriptor, static_cast<off_t>(offset), static_cast<off_t>(total_bytes), SYNC_FILE_RANGE_WRITE);
}

[[noreturn]] void throw_not_a_file(Fault fault, const std::filesystem::path& path) {
  throw Error(fault, join("cannot read ", path.string(),
                          ": it is a pipe, socket or device, expected a file; write what it gives into a file first"));
}

/// Whether the descriptor is a stream that ends and that a shell may give in place of a file: an anonymous pipe
/// (`<(command)`, /dev/stdin), a terminal, /dev/null. A named pipe may block for ever, and /dev/zero never ends.
bool is_shell_stream(int descriptor, const struct stat& info) {
  if (S_ISCHR(info.st_mode)) {
    struct stat null {};
    return ::isatty(descriptor) != 0 || (::stat("/dev/null", &null) == 0 && info.st_rdev == null.st_rdev);
  }
  std::error_code ignored;
  const auto target = std::filesystem::read_symlink(join("/proc/self/fd/", descriptor), ignored).string();
  return S_ISFIFO(info.st_mode) && target.starts_with("pipe:");  // for a named pipe the target is its path
}

/// Creates a new, empty file beside `path`, under a name that is not taken.
std::filesystem::path create_temporary(const std::filesystem::path& path) {
  constexpr int kMaxTries = 1000;  // names that another program, or a process with the same id, has left
  for (int i = 0;; ++i) {
    std::filesystem::path name = path.string() + join(".partial-", ::getpid());
    if (i > 0) name += join("-", i);
    const FileDescriptor file{::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)};
    if (file.value >= 0) return name;
    if (errno != EEXIST || i == kMaxTries) throw_errno(Fault::kStorage, "create", name);
  }
}

}  // namespace

std::string read_file(const std::filesystem::path& path, Fault fault) {
  const FileDescriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};  // does not block on a pipe
  struct stat info {};
  if (file.value < 0 || ::fstat(file.value, &info) != 0) throw_errno(fault, "read", path);
  if (S_ISDIR(info.st_mode)) {
    errno = EISDIR;
    throw_errno(fault, "read", path);
  }
  if (!S_ISREG(info.st_mode) && !is_shell_stream(file.value, info)) throw_not_a_file(fault, path);
  ::fcntl(file.value, F_SETFL, 0);  // reads from a shell's stream may block
  std::string bytes;
  bytes.reserve(static_cast<std::size_t>(info.st_size));
  char block[1 << 16];
  while (true) {
    const ssize_t count = ::read(file.value, block, sizeof block);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_errno(fault, "read", path);
    if (count == 0) return bytes;
    bytes.append(block, static_cast<std::size_t>(count));
  }
}

void sync_path(const std::filesystem::path& path) {
  const FileDescriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.value < 0 || ::fsync(file.value) != 0) throw_errno(Fault::kStorage, "fsync", path);
}

void atomic_write_file_with(const std::filesystem::path& path,
                            const std::function<void(const std::filesystem::path&)>& write) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {  // checked before hours of work, not at the final rename
    errno = EISDIR;
    throw_errno(Fault::kStorage, "write", path);
  }
  const std::filesystem::path temporary = create_temporary(path);
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  try {
    write(temporary);
    sync_path(temporary);
    if (::rename(temporary.c_str(), path.c_str()) != 0) throw_errno(Fault::kStorage, "rename to", path);
    sync_path(folder);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

void atomic_write_file(const std::filesystem::path& path, std::string_view bytes) {
  atomic_write_file_with(path, [&](const std::filesystem::path& temporary) {
    FileWriter file(temporary);
    file.write(bytes);
    file.close();
  });
}

FileWriter::FileWriter(const std::filesystem::path& path) : path_(path) {
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ < 0) throw_errno("create");
  buffer_.reserve(kBufferBytes);
}

FileWriter::~FileWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void FileWriter::throw_errno(std::string_view call) const { slipway::throw_errno(Fault::kStorage, call, path_); }

void FileWriter::write(const void* bytes, std::size_t count) {
  const std::string_view data(static_cast<const char*>(bytes), count);
  if (count < kBufferBytes) {
    buffer_ += data;
  } else {  // long enough to be written without the buffer
    flush();
    append(descriptor_, path_, data, position_);
  }
  position_ += count;
  if (buffer_.size() >= kBufferBytes) flush();
}

void FileWriter::flush() {
  append(descriptor_, path_, buffer_, position_ - buffer_.size());
  buffer_.clear();
}

void FileWriter::close() {
  flush();
  if (::fsync(descriptor_) != 0) throw_errno("fsync");
  if (::close(std::exchange(descriptor_, -1)) != 0) throw_errno("close");
}

MappedFile::MappedFile(const std::filesystem::path& path, Fault fault) {
  const FileDescriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  struct stat info {};
  if (file.value < 0 || ::fstat(file.value, &info) != 0) throw_errno(fault, "read", path);
  if (S_ISDIR(info.st_mode)) {
    errno = EISDIR;
    throw_errno(fault, "map", path);
  }
  if (!S_ISREG(info.st_mode)) throw_not_a_file(fault, path);
  size_ = static_cast<std::size_t>(info.st_size);
  if (size_ == 0) return;
  void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.value, 0);
  if (data == MAP_FAILED) throw_errno(fault, "map", path);
  data_ = static_cast<const std::byte*>(data);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release_pages() const {
  if (data_ != nullptr)
    ::madvise(const_cast<std::byte*>(data_), size_, MADV_DONTNEED);  // only a hint: a failure has no effect
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

std::uint64_t free_bytes(const std::filesystem::path& path) {
  std::error_code code;
  std::filesystem::path existing = std::filesystem::absolute(path);
  while (!std::filesystem::exists(existing, code) && existing != existing.parent_path())
    existing = existing.parent_path();
  const auto space = std::filesystem::space(existing, code);
  if (code)
    throw Error(Fault::kStorage, join("cannot ask for the free space of ", existing.string(), ": ", code.message()));
  return space.available;
}

}  // namespace slipway
