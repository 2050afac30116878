// The manifest of a checkpoint: the state that all ranks share, the file and offset of every slice, every file's hash.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_slice.hpp"
#include "src/core/json.hpp"

namespace slipway {

/// The parallel layout of the ranks that wrote a checkpoint: the size of each dimension.
struct CheckpointLayout {
  int data = 1, tensor = 1, pipeline = 1;
};

/// Everything in a checkpoint but the tensor values; the same on every rank. The Json members are objects whose keys
/// the trainer defines; the comments name the keys that other code reads.
struct CheckpointInfo {
  std::string kind = "full";  ///< "full"; later "adapter", with the hash of its base in `sections`
  std::int64_t step = 0;      ///< optimizer steps done
  std::string run_id;         ///< hexadecimal, at least 8 digits; one per run, unchanged when it is resumed
  CheckpointLayout layout;
  Json config = Json::object();        ///< resolved keys and values, as text
  Json architecture = Json::object();  ///< the ModelSpec: enough to build the model without the config
  std::string tokenizer;               ///< the text of tokenizer.json
  Json data = Json::object();          ///< `corpus_sha256`, and `cursor`, which diff compares
  Json random = Json::object();        ///< seed and streams, which diff compares
  Json history = Json::object();       ///< validation losses so far, tokens_seen
  Json build = Json::object();         ///< build id, hosts, threads, device, time: where it was made; diff ignores it
  Json sections = Json::object();      ///< extensible: other code adds sections under its own names
};

/// A slice as stored in a rank file: contiguous little-endian f32 values from `byte_offset` on.
struct StoredSlice {
  Box region;           ///< in the whole tensor
  int file = 0;         ///< index into Manifest::files
  std::string dataset;  ///< its HDF5 path in that file
  std::uint64_t byte_offset = 0;
  std::string xxh3;  ///< XXH3-128 of its bytes

  std::uint64_t bytes() const {
    return static_cast<std::uint64_t>(region.extent[0] * region.extent[1]) * sizeof(float);
  }
};

struct StoredTensor {
  std::string name;
  std::string kind;
  std::string dtype = "f32";
  std::vector<std::int64_t> shape;
  std::vector<StoredSlice> slices;
};

struct StoredFile {
  std::string name;
  std::uint64_t bytes = 0;
  std::string xxh3;
};

/// The content of manifest.json.
struct Manifest {
  CheckpointInfo info;
  std::vector<StoredTensor> tensors;  ///< ordered by kind ("value" first) and name
  std::vector<StoredFile> files;      ///< rank files in rank order, then index.h5

  std::uint64_t bytes() const;  ///< of all files
};

inline constexpr char kManifestName[] = "manifest.json";
inline constexpr char kManifestHashName[] = "manifest.sha256";
inline constexpr char kIndexName[] = "index.h5";
inline constexpr int kCheckpointVersion = 1;  ///< of the format; readers refuse newer ones

Json to_json(const StoredTensor& tensor);
StoredTensor stored_tensor(const Json& json);
Json to_json(const StoredFile& file);
StoredFile stored_file(const Json& json);

/// Orders the tensors and checks that the slices of each cover it exactly once.
/// Errors   Fault::kBug naming the tensor: a layout that loses or duplicates elements is a bug of the program.
void sort_and_validate(Manifest& manifest);

/// Writes manifest.json and manifest.sha256, durably.
void write_manifest(const std::filesystem::path& folder, const Manifest& manifest);

/// Reads both and checks the manifest's hash and content. Errors: Fault::kStorage when one is missing or altered, newer
/// than this program, or not a checkpoint's.
Manifest read_manifest(const std::filesystem::path& folder);

}  // namespace slipway
