#include "io/checkpoint/checkpoint_reader.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "io/checkpoint/checkpoint_folder.hpp"
#include "io/checkpoint/provenance.hpp"
#include "src/core/cpus.hpp"
#include "src/core/hash.hpp"
#include "src/core/log.hpp"
#include "src/core/tensor.hpp"
#include "src/core/workers.hpp"

namespace slipway {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kBlockBytes = 1 << 20;      // read, hashed and copied while it is in the cache
constexpr std::int64_t kStreamElements = 16 << 20;  // elements that stream() passes on per call: 64 MiB

/// Calls `work(i)` for each i below `count`, on all threads. Errors: of several, the one with the smallest i.
template <class Work>
void parallel_for(std::size_t count, Work&& work) {
  std::vector<std::exception_ptr> failures(count);
#pragma omp parallel for schedule(dynamic)
  for (std::size_t i = 0; i < count; ++i) {
    try {
      work(i);
    } catch (...) {
      failures[i] = std::current_exception();
    }
  }
  for (const std::exception_ptr& failure : failures)
    if (failure != nullptr) std::rethrow_exception(failure);
}

/// A file read at offsets. Unlike with mmap, a failing disk gives an error instead of SIGBUS.
class InputFile {
 public:
  InputFile(fs::path path, std::uint64_t size)
      : path_(std::move(path)),
        descriptor_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {  // does not block on a pipe
    struct stat info {};
    if (descriptor_ < 0 || ::fstat(descriptor_, &info) != 0) {
      const std::string reason = errno_message();
      close();
      throw Error(Fault::kStorage, join("cannot read ", path_.string(), ": ", reason));
    }
    if (S_ISREG(info.st_mode) && static_cast<std::uint64_t>(info.st_size) == size) return;
    close();
    throw Error(Fault::kStorage, join(path_.string(), " has ", info.st_size, " bytes, expected ", size));
  }
  ~InputFile() { close(); }
  InputFile(InputFile&& other) noexcept
      : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

  void read(void* bytes, std::size_t count, std::uint64_t offset) const {
    auto* destination = static_cast<char*>(bytes);
    while (count > 0) {
      const ssize_t done = ::pread(descriptor_, destination, count, static_cast<off_t>(offset));
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0)
        throw Error(Fault::kStorage,
                    join("cannot read ", path_.string(), ": ", done < 0 ? errno_message() : "it ends early"));
      destination += done;
      count -= static_cast<std::size_t>(done);
      offset += static_cast<std::uint64_t>(done);
    }
  }

 private:
  void close() {
    if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
  }
  fs::path path_;
  int descriptor_;
};

}  // namespace

struct CheckpointReader::State {
  fs::path folder;
  RecoveryHint hint;
  Manifest manifest;
  std::map<std::pair<std::string, std::string>, const StoredTensor*> by_name;  ///< (kind, name)
  std::map<int, InputFile> open_files;
  std::set<const StoredSlice*> verified_slices;
  std::mutex mutex;  ///< guards `open_files` and `verified_slices`: read_all() runs on many threads

  const InputFile& file(int index) {
    const std::lock_guard lock(mutex);
    const auto entry = open_files.find(index);
    if (entry != open_files.end()) return entry->second;
    const StoredFile& stored = manifest.files[static_cast<std::size_t>(index)];
    return open_files.emplace(index, InputFile(folder / stored.name, stored.bytes)).first->second;
  }

  /// A thread-local staging buffer for a block of a file.
  static char* staging_buffer(std::uint64_t bytes) {
    thread_local Buffer<char> block;
    block.reserve(bytes);
    return block.data();
  }

  [[noreturn]] void throw_corrupted(int file, const std::string& what) const {
    throw Error(Fault::kStorage, join("checkpoint ", folder.string(), ": ",
                                      manifest.files[static_cast<std::size_t>(file)].name, " is damaged: ", what));
  }

  /// Copies `region`, which lies within one stored slice, to `out`, rows `stride` elements apart. The first read of a
  /// slice reads all of its bytes and checks their hash.
  void copy(const StoredTensor& tensor, const StoredSlice& slice, const Box& region, float* out, std::int64_t stride) {
    const bool check = !is_verified(slice);
    const std::int64_t slice_row = slice.region.offset[0], slice_cols = slice.region.extent[1];
    const std::int64_t first = check ? slice_row : region.offset[0];
    const std::int64_t last = check ? slice_row + slice.region.extent[0] : region.offset[0] + region.extent[0];
    const std::uint64_t row_bytes = static_cast<std::uint64_t>(slice_cols) * sizeof(float);
    const std::int64_t row_block = static_cast<std::int64_t>(std::max<std::uint64_t>(1, kBlockBytes / row_bytes));
    const InputFile& input = file(slice.file);
    char* const staging = staging_buffer(static_cast<std::uint64_t>(row_block) * row_bytes);

    Xxh3 hash;
    for (std::int64_t row = first; row < last; row += row_block) {
      const std::int64_t count = std::min(row_block, last - row);
      const std::uint64_t bytes = static_cast<std::uint64_t>(count) * row_bytes;
      const Box rows{{row, slice.region.offset[1]}, {count, slice_cols}};
      const auto intersection = intersect(rows, region);
      float* const dst = intersection ? out + (intersection->offset[0] - region.offset[0]) * stride : nullptr;
      const bool in_place = intersection && intersection->extent == rows.extent && (stride == slice_cols || count == 1);
      char* const to = in_place ? reinterpret_cast<char*>(dst) : staging;
      input.read(to, bytes, slice.byte_offset + static_cast<std::uint64_t>(row - slice_row) * row_bytes);
      if (check) hash.add(to, bytes);
      if (!intersection || in_place) continue;
      for (std::int64_t r = 0; r < intersection->extent[0]; ++r)
        std::memcpy(dst + r * stride,
                    staging + static_cast<std::uint64_t>(intersection->offset[0] + r - row) * row_bytes +
                        static_cast<std::uint64_t>(intersection->offset[1] - slice.region.offset[1]) * sizeof(float),
                    static_cast<std::size_t>(intersection->extent[1]) * sizeof(float));
    }
    if (!check) return;
    if (hash.hex() != slice.xxh3)
      throw_corrupted(slice.file,
                      join(tensor.kind, " of ", tensor.name, " does not have the hash that the manifest states"));
    const std::lock_guard lock(mutex);
    verified_slices.insert(&slice);
  }

  bool is_verified(const StoredSlice& slice) {
    const std::lock_guard lock(mutex);
    return verified_slices.contains(&slice);
  }

  /// The tensor of that name and kind. The error has no recovery hint: other checkpoints of the run lack it too.
  const StoredTensor& get_tensor(const std::string& name, const std::string& kind) const {
    const auto entry = by_name.find({kind, name});
    if (entry != by_name.end()) return *entry->second;
    throw Error(Fault::kStorage, join("checkpoint ", folder.string(), " has no ", kind, " of ", name,
                                      ": it belongs to another model, or keeps weights only"));
  }

  const StoredTensor& get_checked_tensor(const Slice& slice) const {
    const StoredTensor& tensor = get_tensor(slice.tensor, slice.kind);
    if (tensor.shape == slice.shape) return tensor;
    throw Error(Fault::kStorage,
                join("checkpoint ", folder.string(), " has ", slice.tensor, " as ", Json(tensor.shape).dump(),
                     ", wanted is ", Json(slice.shape).dump(), ": it belongs to another model"));
  }

  void read(const StoredTensor& tensor, const Slice& slice, float* out, std::int64_t stride) {
    std::int64_t filled = 0;
    for (const StoredSlice& stored : tensor.slices) {
      const auto intersection = intersect(stored.region, box(slice));
      if (!intersection) continue;
      copy(tensor, stored, *intersection,
           out + (intersection->offset[0] - slice.offset[0]) * stride + intersection->offset[1] - slice.offset[1],
           stride);
      filled += intersection->extent[0] * intersection->extent[1];
    }
    require(filled == slice.size(), join("a rectangle of ", slice.tensor, " leaves the tensor"));
  }

  /// Throws an error that names the tensor to which the damaged bytes of a file belong.
  [[noreturn]] void throw_corrupted_tensor(int file_index) {
    for (const StoredTensor& tensor : manifest.tensors)
      for (const StoredSlice& slice : tensor.slices) {
        float unused = 0.0f;
        if (slice.file == file_index) copy(tensor, slice, {slice.region.offset, {0, 0}}, &unused, 0);
      }
    throw_corrupted(file_index, "bytes beside the tensors do not have the hash that the manifest states");
  }

  void verify_all(VerifyShard shard) {
    std::set<std::string> expected{kManifestName, kManifestHashName};
    for (const StoredFile& stored : manifest.files) expected.insert(stored.name);
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (expected.erase(entry.path().filename()) == 0)
        throw Error(Fault::kStorage, join("checkpoint ", folder.string(), " holds ", entry.path().filename().string(),
                                          ", which its manifest does not list: move it away"));
    }
    if (!expected.empty())
      throw Error(Fault::kStorage, join("checkpoint ", folder.string(), " lacks ", *expected.begin()));

    log::Progress progress("verify " + folder.filename().string());
    const std::uint64_t total = manifest.bytes() / static_cast<std::uint64_t>(shard.count);
    std::uint64_t done = 0;
    const auto report = [&](std::uint64_t bytes) {
      done += bytes;
      progress(static_cast<double>(done), static_cast<double>(total));
    };
    const int threads = std::max(1, available_cpus() / shard.count);
    for (int i = shard.index; i < static_cast<int>(manifest.files.size()); i += shard.count)
      verify_file(i, threads, report);
  }

  /// Threads read one block of the file each; the blocks are hashed in order.
  void verify_file(int index, int max_threads, const std::function<void(std::uint64_t)>& report) {
    const StoredFile& stored = manifest.files[static_cast<std::size_t>(index)];
    const InputFile& input = file(index);
    const std::uint64_t blocks = (stored.bytes + kBlockBytes - 1) / kBlockBytes;
    const auto count = [&](std::uint64_t block) { return std::min(kBlockBytes, stored.bytes - block * kBlockBytes); };
    const auto threads =
        static_cast<int>(std::clamp<std::uint64_t>(blocks, 1, static_cast<std::uint64_t>(max_threads)));

    using Pipeline = OrderedPipeline<std::uint64_t>;
    const auto in_flight = static_cast<std::uint64_t>(Pipeline::max_in_flight(threads));
    Buffer<char> buffers(std::min(in_flight * kBlockBytes, stored.bytes));
    const auto buffer = [&](std::uint64_t block) { return buffers.data() + block % in_flight * kBlockBytes; };
    Xxh3 hash;
    Pipeline pipeline;
    pipeline.read = [&, next = std::uint64_t{0}]() mutable -> std::optional<std::uint64_t> {
      return next < blocks ? std::optional(next++) : std::nullopt;
    };
    pipeline.work = [&](std::uint64_t block) { input.read(buffer(block), count(block), block * kBlockBytes); };
    pipeline.consume = [&](std::uint64_t block) {
      hash.add(buffer(block), count(block));
      report(count(block));
    };
    pipeline.run(threads);
    if (hash.hex() != stored.xxh3) throw_corrupted_tensor(index);
  }
};

namespace {

/// The hint to append to an error about the checkpoint in `folder`.
std::string recovery_hint(const fs::path& folder, RecoveryHint hint) {
  if (hint == RecoveryHint::kNone) return "";
  const fs::path checkpoints = fs::absolute(folder).lexically_normal().parent_path();
  auto others = list_checkpoints(checkpoints);
  std::error_code ignored;
  std::erase_if(others, [&](const CheckpointRef& other) { return fs::equivalent(other.folder, folder, ignored); });
  if (others.empty()) return "; the run has no other checkpoint: restore this one from a copy";
  if (const auto newest = newest_valid_checkpoint(checkpoints))
    return join("; the newest good checkpoint is step ", newest->step, ": choose it with --checkpoint ", newest->step);
  return "; none of the run's checkpoints is whole: restore one from a copy";
}

/// Runs `work`; appends the hint to the message of a storage fault.
template <class Work>
auto with_recovery_hint(const fs::path& folder, RecoveryHint hint, Work&& work) {
  try {
    return work();
  } catch (const Error& error) {
    if (error.fault() != Fault::kStorage) throw;
    throw Error(Fault::kStorage, error.what() + recovery_hint(folder, hint));
  } catch (const fs::filesystem_error& error) {
    throw Error(Fault::kStorage,
                join("checkpoint ", folder.string(), " cannot be read: ", error.what(), recovery_hint(folder, hint)));
  }
}

}  // namespace

CheckpointReader::CheckpointReader(const fs::path& folder, RecoveryHint hint)
    : state_(new State{
          folder, hint, with_recovery_hint(folder, hint, [&] { return read_manifest(folder); }), {}, {}, {}, {}}) {
  for (const StoredTensor& tensor : state_->manifest.tensors) state_->by_name[{tensor.kind, tensor.name}] = &tensor;
}

CheckpointReader::~CheckpointReader() = default;
CheckpointReader::CheckpointReader(CheckpointReader&&) noexcept = default;

const fs::path& CheckpointReader::folder() const { return state_->folder; }
const Manifest& CheckpointReader::manifest() const { return state_->manifest; }

const StoredTensor* CheckpointReader::find(const std::string& name, const std::string& kind) const {
  const auto entry = state_->by_name.find({kind, name});
  return entry == state_->by_name.end() ? nullptr : entry->second;
}

void CheckpointReader::read(const Slice& slice, float* out, std::int64_t stride) {
  const StoredTensor& tensor = state_->get_checked_tensor(slice);
  with_recovery_hint(state_->folder, state_->hint, [&] { state_->read(tensor, slice, out, stride); });
}

void CheckpointReader::read_all(std::span<const ReadRequest> requests) {
  std::vector<const StoredTensor*> tensors;
  for (const ReadRequest& request : requests) tensors.push_back(&state_->get_checked_tensor(request.slice));
  with_recovery_hint(state_->folder, state_->hint, [&] {
    parallel_for(requests.size(), [&](std::size_t i) {
      state_->read(*tensors[i], requests[i].slice, requests[i].out, requests[i].stride);
    });
  });
}

std::vector<float> CheckpointReader::read_tensor(const std::string& name, const std::string& kind) {
  const Slice slice = full_slice(name, kind, state_->get_tensor(name, kind).shape);
  open_files(*find(name, kind));
  std::vector<float> values(static_cast<std::size_t>(slice.size()));
  read(slice, values.data(), slice.extent[1]);
  return values;
}

void CheckpointReader::open_files(const StoredTensor& tensor) {
  with_recovery_hint(state_->folder, state_->hint, [&] {
    for (const StoredSlice& slice : tensor.slices) state_->file(slice.file);
  });
}

void CheckpointReader::stream(const StoredTensor& tensor, const std::function<void(std::span<const float>)>& sink) {
  const auto [rows, cols] = rows_cols(tensor.shape);
  const std::int64_t row_block = std::clamp<std::int64_t>(kStreamElements / cols, 1, rows);
  open_files(tensor);
  std::vector<float> values(static_cast<std::size_t>(row_block * cols));
  for (std::int64_t row = 0; row < rows; row += row_block) {
    const Slice slice{tensor.name, tensor.kind, tensor.shape, {row, 0}, {std::min(row_block, rows - row), cols}};
    read(slice, values.data(), cols);
    sink({values.data(), static_cast<std::size_t>(slice.size())});
  }
}

void CheckpointReader::verify_all(VerifyShard shard) {
  with_recovery_hint(state_->folder, state_->hint, [&] { state_->verify_all(shard); });
}

std::string provenance_sha256(CheckpointReader& reader, const std::function<void(double, double)>& progress) {
  ProvenanceHash hash;
  const auto tensor_count = std::ranges::count(reader.tensors(), "value", &StoredTensor::kind);
  std::size_t done = 0;
  for (const StoredTensor& tensor : reader.tensors()) {  // "value" comes first, in name order
    if (tensor.kind != "value") continue;
    hash.begin(tensor.name, tensor.shape);
    reader.stream(tensor, [&](std::span<const float> elements) { hash.add(elements); });
    if (progress) progress(static_cast<double>(++done), static_cast<double>(tensor_count));
  }
  return hash.hex();
}

}  // namespace slipway
