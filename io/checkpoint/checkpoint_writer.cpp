#include "io/checkpoint/checkpoint_writer.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <utility>

#include "io/checkpoint/checkpoint_folder.hpp"
#include "io/hdf5.hpp"
#include "src/core/clock.hpp"
#include "src/core/file.hpp"
#include "src/core/hash.hpp"
#include "src/core/json_error.hpp"
#include "src/core/profile.hpp"
#include "src/core/workers.hpp"

namespace slipway {
namespace {

// A stored slice has one hash, so a load reads all of it. Small enough that a load on more ranks reads little more than
// it needs, large enough that a file has few slices and disk writes are long.
constexpr std::int64_t kMaxSliceBytes = 64 << 20;
constexpr std::int64_t kChunkElements = 16384;  // checked, copied and hashed while they are in a core's private cache
constexpr std::size_t kTransferElements = kTransferBytes / sizeof(float);
constexpr std::uint64_t kMetadataBytes = 1 << 20;  // at most, for all but tensor data: HDF5 metadata, index, manifest

// Nice value of the writer threads (on Linux it is per thread). The threads of a training step wait for each other, so
// delaying one of them delays the step. At 5 the writer gets a quarter of a busy processor, and all of an idle one; at
// 10 a step loses half as much, but more than twice as many steps lose it.
constexpr int kNice = 5;

std::string file_stem(int rank, const CheckpointInfo& info) {
  return join("rank-", rank, ".", info.step, "-", info.run_id.substr(0, 8));
}

/// The index of the first NaN or infinity; `count` when all are finite.
std::int64_t first_not_finite(const float* values, std::int64_t count) {
  constexpr std::uint32_t kExponent = 0x7f800000;  // all ones in NaN and infinity only
  std::uint32_t any_not_finite = 0;
  for (std::int64_t i = 0; i < count; ++i)
    any_not_finite |= (std::bit_cast<std::uint32_t>(values[i]) & kExponent) == kExponent;
  if (any_not_finite == 0) return count;
  return std::find_if(values, values + count,
                      [](float x) { return (std::bit_cast<std::uint32_t>(x) & kExponent) == kExponent; }) -
         values;
}

[[noreturn]] void throw_not_finite(const SliceView& view, std::int64_t row, std::int64_t col) {
  throw Error(Fault::kNumeric, join(view.kind, " of ", view.tensor, " is ", view.data[row * view.stride + col], " at [",
                                    view.offset[0] + row, ", ", view.offset[1] + col,
                                    "]: it is not saved, and the previous checkpoint stays"));
}

/// Writes a slice's elements at `offset` of the file, row after row, through `block`, which holds kTransferElements.
/// Returns their hash. Errors: Fault::kNumeric for NaN and infinity.
std::string write_finite_slice(const SliceView& view, SliceFile& file, std::uint64_t offset, float* block) {
  Xxh3 hash;
  const bool is_contiguous = view.stride == view.extent[1] || view.extent[0] == 1;
  const std::int64_t runs = is_contiguous ? 1 : view.extent[0], run_length = view.size() / runs;
  std::size_t buffered = 0;  // elements in `block`
  const auto flush = [&] {
    file.write(reinterpret_cast<const char*>(block), buffered * sizeof(float), offset);
    offset += buffered * sizeof(float);
    buffered = 0;
  };
  for (std::int64_t run = 0; run < runs; ++run) {
    const float* values = view.data + run * view.stride;
    for (std::int64_t i = 0, count; i < run_length; i += count) {
      count = std::min({kChunkElements, run_length - i, static_cast<std::int64_t>(kTransferElements - buffered)});
      if (const std::int64_t bad = first_not_finite(values + i, count); bad < count) {
        const std::int64_t element = run * run_length + i + bad;  // of the slice, row-major
        throw_not_finite(view, element / view.extent[1], element % view.extent[1]);
      }
      float* chunk = block + buffered;
      std::memcpy(chunk, values + i, static_cast<std::size_t>(count) * sizeof(float));
      hash.add(chunk, static_cast<std::size_t>(count) * sizeof(float));
      buffered += static_cast<std::size_t>(count);
      if (buffered == kTransferElements) flush();
    }
  }
  flush();
  return hash.hex();
}

void check_slice(const SliceView& slice) {
  const auto [rows, cols] = rows_cols(slice.shape);
  const auto fits = [](std::int64_t offset, std::int64_t extent, std::int64_t size) {
    return offset >= 0 && extent > 0 && extent <= size && offset <= size - extent;
  };
  require(fits(slice.offset[0], slice.extent[0], rows) && fits(slice.offset[1], slice.extent[1], cols),
          join("a slice of ", slice.tensor, " leaves the tensor or is empty"));
  require(slice.data != nullptr && (slice.extent[0] == 1 || slice.stride >= slice.extent[1]), "a slice has no memory");
  for (const std::string& name : {slice.tensor, slice.kind})  // HDF5 reads '/' as a group and '%' as a pattern
    require(!name.empty() && name.find_first_of("/%@") == std::string::npos && name != "." && name != "..",
            join("\"", name, "\" cannot name a tensor in a checkpoint"));
}

/// Splits slices by rows into slices of at most kMaxSliceBytes (but at least one row), each stored with its own hash.
std::vector<SliceView> split_into_stored_slices(std::span<const SliceView> local_slices) {
  std::vector<SliceView> stored;
  for (const SliceView& slice : local_slices) {
    check_slice(slice);
    const std::int64_t row_block =
        std::max<std::int64_t>(1, kMaxSliceBytes / std::int64_t{sizeof(float)} / slice.extent[1]);
    for (std::int64_t row = 0; row < slice.extent[0]; row += row_block) {
      SliceView view = slice;
      view.offset[0] += row;
      view.extent[0] = std::min(row_block, slice.extent[0] - row);
      view.data += row * slice.stride;
      stored.push_back(std::move(view));
    }
  }
  return stored;
}

/// Renames `folder` to `target`, replacing an older checkpoint of the same step. Atomic, except as noted below.
void publish_folder(const std::filesystem::path& folder, const std::filesystem::path& target) {
  const auto rename = [&](unsigned flags) {
    return ::renameat2(AT_FDCWD, folder.c_str(), AT_FDCWD, target.c_str(), flags) == 0;
  };
  const auto fail = [&] {
    throw Error(Fault::kStorage,
                join("cannot rename ", folder.string(), " to ", target.string(), ": ", errno_message()));
  };
  if (!std::filesystem::exists(target)) {
    if (!rename(0)) fail();
  } else if (!rename(RENAME_EXCHANGE)) {  // a file system without RENAME_EXCHANGE: briefly, `target` does not exist
    const std::filesystem::path replaced = target.string() + kReplacedSuffix;  // remove_partials() restores it
    std::filesystem::rename(target, replaced);
    if (!rename(0)) fail();
    std::filesystem::remove_all(replaced);
  }
  sync_path(target.parent_path());
  std::filesystem::remove_all(folder);  // after an exchange, `folder` is the older checkpoint
}

}  // namespace

CheckpointWriter::CheckpointWriter(std::filesystem::path checkpoints, int rank, int ranks)
    : checkpoints_(std::move(checkpoints)), rank_(rank), ranks_(ranks) {}

CheckpointWriter::~CheckpointWriter() { abandon(); }

std::filesystem::path CheckpointWriter::partial_folder() const {
  return checkpoints_ / (checkpoint_name(info_.step) + ".partial");
}

void CheckpointWriter::begin(const CheckpointInfo& info, std::span<const SliceView> local_slices) {
  require(phase() == Phase::kIdle, "CheckpointWriter::begin while a save is in flight");
  require(info.run_id.size() >= 8 && info.run_id.find_first_not_of("0123456789abcdef") == std::string::npos,
          "a run id is at least 8 hexadecimal digits");
  info_ = info;
  slices_.assign(split_into_stored_slices(local_slices));
  start_thread(Phase::kWriting, Phase::kWritten, &CheckpointWriter::write_slices);
}

void CheckpointWriter::start_thread(Phase running_phase, Phase completed_phase, void (CheckpointWriter::*work)()) {
  if (thread_.joinable()) thread_.join();
  phase_.store(running_phase, std::memory_order_release);
  thread_ = std::thread([this, completed_phase, work] {
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice);
    try {
      (this->*work)();
      phase_.store(completed_phase, std::memory_order_release);
    } catch (...) {
      slices_.stop();  // so that snapshot() does not wait for a save that has failed
      failure_ = std::current_exception();
      phase_.store(Phase::kFailed, std::memory_order_release);
    }
  });
}

void CheckpointWriter::write_slices() { write_receipt(write_rank_file()); }

CheckpointWriter::RankFile CheckpointWriter::write_rank_file() {
  const profile::Scope scope("checkpoint write");
  std::filesystem::create_directories(partial_folder());
  const std::string stem = file_stem(rank_, info_);
  const std::filesystem::path path = partial_folder() / (stem + ".h5");

  std::vector<Hdf5Dataset> datasets;
  for (const SliceView& slice : slices_.all()) {
    Hdf5Dataset dataset{join("/", slice.kind, "/", slice.tensor, "@", slice.offset[0], ",", slice.offset[1]),
                        {slice.extent[1]}};
    if (slice.shape.size() == 2) dataset.extent.insert(dataset.extent.begin(), slice.extent[0]);
    datasets.push_back(std::move(dataset));
  }
  if (needed_bytes() > free_bytes(partial_folder())) throw Error(Fault::kStorage, "the disk is too full");

  RankFile rank_file{path, create_hdf5_slices(path, datasets, info_.step, info_.run_id), {}, {}};
  for (Hdf5Dataset& dataset : datasets) rank_file.datasets.push_back(std::move(dataset.path));
  rank_file.xxh3.resize(datasets.size());
  SliceFile file(path);
  file.reserve(std::filesystem::file_size(path));
  // Two threads, so that while one waits for the disk the other copies and hashes.
  const std::function<void()> write = [&] { write_leased_slices(file, rank_file); };
  run_jobs(std::vector{write, write}, 2);
  file.close();
  return rank_file;
}

/// Leases and writes slices until none is left.
void CheckpointWriter::write_leased_slices(SliceFile& file, RankFile& rank_file) {
  try {
    const PageAlignedPtr<float> block = allocate_page_aligned<float>(kTransferElements);
    if (block == nullptr) throw Error(Fault::kDevice, "out of memory: no room to write a checkpoint through");
    while (const auto lease = slices_.lease_next())
      rank_file.xxh3[lease->index()] =
          write_finite_slice(lease->view(), file, rank_file.offsets[lease->index()], block.get());
  } catch (...) {
    slices_.stop();  // for the other thread too
    throw;
  }
}

/// Reads the rank's file back from the disk, compares the hashes of its slices with those written, and writes the
/// receipt: a JSON file from which rank 0 assembles the manifest.
void CheckpointWriter::write_receipt(const RankFile& rank_file) const {
  const profile::Scope scope("checkpoint read back");
  std::vector<FileRange> ranges;
  const std::span<const SliceView> slices = slices_.all();
  for (std::size_t i = 0; i < slices.size(); ++i) ranges.push_back({rank_file.offsets[i], slices[i].bytes()});
  const FileHashes hashes = hash_on_disk(rank_file.path, ranges);
  std::map<std::pair<std::string, std::string>, StoredTensor> tensors;
  for (std::size_t i = 0; i < slices.size(); ++i) {
    if (hashes.ranges[i] != rank_file.xxh3[i])
      throw Error(Fault::kStorage,
                  join(rank_file.path.string(), " does not hold what was written to it: check the disk"));
    const Slice& slice = slices[i];
    tensors.try_emplace({slice.kind, slice.tensor}, StoredTensor{slice.tensor, slice.kind, "f32", slice.shape, {}})
        .first->second.slices.push_back(
            {box(slice), 0, rank_file.datasets[i], rank_file.offsets[i], rank_file.xxh3[i]});
  }
  const StoredFile file{rank_file.path.filename().string(), std::filesystem::file_size(rank_file.path), hashes.file};
  Json receipt = {{"file", to_json(file)}, {"tensors", Json::array()}};
  for (const auto& [key, tensor] : tensors) receipt["tensors"].push_back(to_json(tensor));
  atomic_write_file(std::filesystem::path(rank_file.path).replace_extension(".json"), to_line(receipt));
}

void CheckpointWriter::publish() {
  require(rank_ == 0 && phase() == Phase::kWritten, "CheckpointWriter::publish out of turn");
  start_thread(Phase::kPublishing, Phase::kPublished, &CheckpointWriter::assemble_checkpoint);
}

void CheckpointWriter::assemble_checkpoint() {
  Manifest manifest{info_, {}, {}};
  std::map<std::pair<std::string, std::string>, StoredTensor> tensors;
  for (int rank = 0; rank < ranks_; ++rank) {
    const std::filesystem::path path = partial_folder() / (file_stem(rank, info_) + ".json");
    if (!std::filesystem::exists(path))
      throw Error(Fault::kStorage, join("rank 0 does not see ", path.string(),
                                        ": the run's folder must be on a disk that all ranks share"));
    const Json receipt = read_json(path, Fault::kStorage);
    const StoredFile file = stored_file(receipt.at("file"));
    if (std::filesystem::file_size(partial_folder() / file.name) != file.bytes)
      throw Error(Fault::kStorage, join((partial_folder() / file.name).string(), " does not have the ", file.bytes,
                                        " bytes that rank ", rank, " wrote"));
    for (const Json& json : receipt.at("tensors")) {
      StoredTensor tensor = stored_tensor(json);
      const auto entry = tensors
                             .try_emplace({tensor.kind, tensor.name},
                                          StoredTensor{tensor.name, tensor.kind, tensor.dtype, tensor.shape, {}})
                             .first;
      require(entry->second.shape == tensor.shape, join("ranks disagree on the shape of ", tensor.name));
      for (StoredSlice& slice : tensor.slices) {
        slice.file = rank;
        entry->second.slices.push_back(std::move(slice));
      }
    }
    manifest.files.push_back(file);
  }
  for (auto& [key, tensor] : tensors) manifest.tensors.push_back(std::move(tensor));
  sort_and_validate(manifest);

  const std::filesystem::path index = partial_folder() / kIndexName;
  create_hdf5_index(index, manifest);
  sync_path(index);
  manifest.files.push_back({kIndexName, std::filesystem::file_size(index), xxh3_file(index, Fault::kStorage)});
  write_manifest(partial_folder(), manifest);
  read_manifest(partial_folder());

  std::set<std::string> expected{kManifestName,
                                 kManifestHashName};  // unlisted are receipts, and leftovers of a killed save
  for (const StoredFile& file : manifest.files) expected.insert(file.name);
  std::vector<std::filesystem::path> unlisted;
  for (const auto& entry : std::filesystem::directory_iterator(partial_folder()))
    if (!expected.contains(entry.path().filename())) unlisted.push_back(entry.path());
  for (const auto& path : unlisted) std::filesystem::remove_all(path);
  sync_path(partial_folder());
  publish_folder(partial_folder(), checkpoints_ / checkpoint_name(info_.step));
}

void CheckpointWriter::finish() {
  require(phase() == (rank_ == 0 ? Phase::kPublished : Phase::kWritten), "CheckpointWriter::finish out of turn");
  if (thread_.joinable()) thread_.join();
  phase_.store(Phase::kIdle, std::memory_order_release);
}

void CheckpointWriter::wait() {
  if (thread_.joinable()) thread_.join();
  if (phase() != Phase::kFailed) return;
  std::string reason;
  try {
    std::rethrow_exception(failure_);
  } catch (const Error& error) {
    if (error.fault() != Fault::kStorage) throw;
    reason = error.what();
  } catch (const std::filesystem::filesystem_error& error) {
    reason = error.what();
  } catch (const nlohmann::json::exception& error) {
    reason = join("a rank's receipt is not as it was written (", reason_of(error), ")");
  }
  const auto checkpoints = list_checkpoints(checkpoints_);
  const std::uint64_t needed = needed_bytes(), free = free_bytes(checkpoints_);
  throw Error(Fault::kStorage, join("step ", info_.step, " is not saved: ", reason,
                                    free < needed ? join("; rank ", rank_, " needs ", needed, " bytes and ", free,
                                                         " are free: make room (checkpoint.keep), then resume; ")
                                                  : std::string("; mend that, then resume; "),
                                    checkpoints.empty() ? "there is no earlier checkpoint"
                                                        : join("step ", checkpoints.back().step, " stays in force")));
}

std::uint64_t CheckpointWriter::needed_bytes() const {
  std::uint64_t sum = kMetadataBytes;
  for (const SliceView& slice : slices_.all()) sum += slice.bytes();
  return sum;
}

void CheckpointWriter::abandon() noexcept {
  if (thread_.joinable()) thread_.join();
  const Phase last_phase = phase_.exchange(Phase::kIdle);
  if (info_.run_id.empty()) return;  // begin() was never called
  try {
    std::error_code ignored;  // remove_partials() removes leftovers before the next run's first save
    if (rank_ == 0) std::filesystem::remove_all(partial_folder(), ignored);
    if (last_phase != Phase::kFailed) return;  // rank 0 may be using the complete file already
    const std::string stem = file_stem(rank_, info_);
    for (const char* suffix : {".h5", ".json"}) std::filesystem::remove(partial_folder() / (stem + suffix), ignored);
  } catch (...) {
  }
}

}  // namespace slipway
