#include "io/data/compressed.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <array>
#include <limits>

#include <cerrno>
#include <utility>
#include <vector>

namespace slipway {
namespace {

constexpr std::size_t kInputBytes = 1 << 18;  // per read from the disk; more was measured to be no faster

/// The file's bytes as stored, without decompression.
class RawFile {
 public:
  RawFile(std::filesystem::path path, Fault fault) : path_(std::move(path)), fault_(fault) {
    descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // do not block on a pipe
    struct stat info {};
    if (descriptor_ < 0 || ::fstat(descriptor_, &info) != 0) fail_with_reason();
    if (S_ISDIR(info.st_mode)) {
      errno = EISDIR;
      fail_with_reason();
    }
    if (!S_ISREG(info.st_mode))
      fail("it is no regular file (a pipe, socket or device); write what it gives into a file first");
    ::posix_fadvise(descriptor_, 0, 0, POSIX_FADV_SEQUENTIAL);
  }
  ~RawFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  RawFile(const RawFile&) = delete;
  RawFile& operator=(const RawFile&) = delete;

  std::size_t read(char* bytes, std::size_t count) {
    std::size_t done = 0;
    while (done < count) {
      const ssize_t got = ::read(descriptor_, bytes + done, count - done);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail_with_reason();
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
    }
    position_ += done;
    return done;
  }

  /// The first bytes, without advancing the position.
  std::size_t peek(char* bytes, std::size_t count) const {
    const ssize_t got = ::pread(descriptor_, bytes, count, 0);
    return got > 0 ? static_cast<std::size_t>(got) : 0;
  }

  std::uint64_t position() const { return position_; }

  [[noreturn]] void fail(std::string_view message) const { throw Error(fault_, join(path_.string(), ": ", message)); }

 private:
  [[noreturn]] void fail_with_reason() const {
    throw Error(fault_, join("cannot read ", path_.string(), ": ", errno_message()));
  }

  std::filesystem::path path_;
  Fault fault_;
  int descriptor_ = -1;
  std::uint64_t position_ = 0;
};

}  // namespace

Compression compression_of(const std::filesystem::path& path) {
  if (path.extension() == ".gz") return Compression::kGzip;
  if (path.extension() == ".zst") return Compression::kZstd;
  return Compression::kNone;
}

class ByteReader::Decoder {
 public:
  Decoder(const std::filesystem::path& path, Fault fault) : file_(path, fault) {}
  virtual ~Decoder() = default;
  virtual std::size_t read(char* bytes, std::size_t count) = 0;
  std::uint64_t compressed_bytes_read() const { return file_.position(); }
  virtual bool skipped_zero_padding() const { return false; }

 protected:
  RawFile file_;
};

namespace {

class PlainDecoder : public ByteReader::Decoder {
 public:
  using Decoder::Decoder;
  std::size_t read(char* bytes, std::size_t count) override { return file_.read(bytes, count); }
};

/// Decodes RFC 1952, one member after another.
class GzipDecoder : public ByteReader::Decoder {
 public:
  GzipDecoder(const std::filesystem::path& path, Fault fault) : Decoder(path, fault), input_(kInputBytes) {
    constexpr int kWindowBits = 15, kGzipOnly = 16;  // zlib's largest window; its flag for the gzip wrapper
    if (::inflateInit2(&stream_, kWindowBits + kGzipOnly) != Z_OK) file_.fail("zlib did not start; free some memory");
  }
  ~GzipDecoder() override { ::inflateEnd(&stream_); }

  std::size_t read(char* bytes, std::size_t count) override {
    stream_.next_out = reinterpret_cast<Bytef*>(bytes);
    count = std::min<std::size_t>(count, std::numeric_limits<uInt>::max());  // zlib counts in 32 bits
    stream_.avail_out = static_cast<uInt>(count);
    while (stream_.avail_out > 0) {
      if (stream_.avail_in == 0) {
        stream_.next_in = reinterpret_cast<Bytef*>(input_.data());
        stream_.avail_in = static_cast<uInt>(file_.read(input_.data(), input_.size()));
      }
      if (between_members_) {
        if (members_ > 0) skip_zeros();
        if (stream_.avail_in == 0 && members_ > 0) break;
        ::inflateReset(&stream_);
        between_members_ = false;
      }
      const int status = ::inflate(&stream_, Z_NO_FLUSH);
      if (status == Z_STREAM_END) {
        ++members_;
        between_members_ = true;
      } else if (status == Z_BUF_ERROR && stream_.avail_in == 0) {
        file_.fail("the gzip data ends too early; the file was cut off, so fetch or pack it again");
      } else if (status != Z_OK) {
        file_.fail(join("not good gzip data (", stream_.msg != nullptr ? stream_.msg : "unknown reason",
                        "); fetch or pack it again, or rename it if it is plain text"));
      }
    }
    return count - stream_.avail_out;
  }

  bool skipped_zero_padding() const override { return skipped_zeros_; }

 private:
  /// Skips zeros after a member: the next member would begin with 1F.
  void skip_zeros() {
    while (stream_.avail_in > 0 && *stream_.next_in == 0) {
      skipped_zeros_ = true;
      ++stream_.next_in;
      if (--stream_.avail_in > 0) continue;
      stream_.next_in = reinterpret_cast<Bytef*>(input_.data());
      stream_.avail_in = static_cast<uInt>(file_.read(input_.data(), input_.size()));
    }
  }

  std::vector<char> input_;
  z_stream stream_{};
  bool between_members_ = true;
  bool skipped_zeros_ = false;
  int members_ = 0;
};

/// Decodes RFC 8878, one frame after another.
class ZstdDecoder : public ByteReader::Decoder {
 public:
  ZstdDecoder(const std::filesystem::path& path, Fault fault)
      : Decoder(path, fault), input_(kInputBytes), stream_(ZSTD_createDStream()) {
    if (stream_ == nullptr) file_.fail("zstd did not start; free some memory");
    constexpr int kMaxWindowLog = 31;  // 2 GiB, the most that zstd writes (--ultra --long=31); its own default is 27
    ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax, kMaxWindowLog);
  }
  ~ZstdDecoder() override { ZSTD_freeDStream(stream_); }

  std::size_t read(char* bytes, std::size_t count) override {
    ZSTD_outBuffer out{bytes, count, 0};
    while (out.pos < out.size) {
      if (in_.pos == in_.size) {
        in_ = {input_.data(), file_.read(input_.data(), input_.size()), 0};
        if (in_.size == 0 && frames_ > 0 && input_hint_ == 0) break;
      }
      const std::size_t out_before = out.pos, in_before = in_.pos;
      input_hint_ = ZSTD_decompressStream(stream_, &out, &in_);
      if (ZSTD_isError(input_hint_) && ZSTD_getErrorCode(input_hint_) == ZSTD_error_memory_allocation)
        file_.fail(
            "zstd got no memory for the window of this data, up to 2 GiB for zstd --ultra --long=31; free some, "
            "or pack the file again without --long");
      if (ZSTD_isError(input_hint_))
        file_.fail(join("not good zstd data (", ZSTD_getErrorName(input_hint_),
                        "); fetch or pack it again, or rename it if it is plain text"));
      if (input_hint_ == 0) ++frames_;
      if (out.pos == out_before && in_.pos == in_before && in_.size == 0)
        file_.fail("the zstd data ends too early; the file was cut off, so fetch or pack it again");
    }
    return out.pos;
  }

 private:
  std::vector<char> input_;
  ZSTD_DStream* stream_;
  ZSTD_inBuffer in_{};
  std::size_t input_hint_ = 1;  // of ZSTD_decompressStream: 0 at the end of a frame
  long frames_ = 0;
};

/// Detects the compression by the magic numbers of RFC 1952 and RFC 8878 in the first bytes.
Compression detect_compression(const RawFile& file) {
  std::array<char, 4> magic{};
  const std::string_view bytes(magic.data(), file.peek(magic.data(), magic.size()));
  if (bytes.starts_with("\x1F\x8B\x08")) return Compression::kGzip;
  if (bytes == "\x28\xB5\x2F\xFD") return Compression::kZstd;
  return Compression::kNone;
}

}  // namespace

ByteReader::ByteReader(const std::filesystem::path& path, Fault fault) : compression_(compression_of(path)) {
  if (compression_ == Compression::kNone) compression_ = detect_compression(RawFile(path, fault));
  switch (compression_) {
    case Compression::kNone: decoder_ = std::make_unique<PlainDecoder>(path, fault); break;
    case Compression::kGzip: decoder_ = std::make_unique<GzipDecoder>(path, fault); break;
    case Compression::kZstd: decoder_ = std::make_unique<ZstdDecoder>(path, fault); break;
  }
}
ByteReader::~ByteReader() = default;
ByteReader::ByteReader(ByteReader&&) noexcept = default;
ByteReader& ByteReader::operator=(ByteReader&&) noexcept = default;

std::size_t ByteReader::read(char* bytes, std::size_t count) { return decoder_->read(bytes, count); }
bool ByteReader::skipped_zero_padding() const { return decoder_->skipped_zero_padding(); }
std::uint64_t ByteReader::compressed_bytes_read() const { return decoder_->compressed_bytes_read(); }

}  // namespace slipway
