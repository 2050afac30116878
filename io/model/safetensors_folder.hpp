// The weights of a Hugging Face folder as one set of tensors: a single safetensors file, or an index and its shards.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "io/model/safetensors.hpp"

namespace slipway {

/// `model.safetensors` of a folder, or else the shards that its `model.safetensors.index.json` lists. If both exist,
/// the single file is used, as in transformers.
///
/// Errors   Fault::kStorage, one sentence naming the file: no weights, a shard that is missing or lies outside the
///          folder, a tensor that is in the index but not in its shard, in a shard but not in the index, or in two
///          shards; and as SafetensorsFile.
class SafetensorsFolder {
 public:
  explicit SafetensorsFolder(const std::filesystem::path& folder);

  /// The metadata of the single file, or of all shards; of equal keys the first shard's value.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::vector<SafeTensor>& tensors() const { return tensors_; }  ///< shard by shard, in the order of their bytes
  const SafeTensor& at(const std::string& name) const;
  bool has(const std::string& name) const { return locations_.contains(name); }
  std::span<const std::byte> bytes(const SafeTensor& tensor) const { return file_of(tensor).bytes(tensor); }
  void read(const SafeTensor& tensor, std::span<float> out) const { file_of(tensor).read(tensor, out); }  ///< as f32

 private:
  struct Location {
    std::size_t file = 0;   ///< in files_
    std::size_t index = 0;  ///< in tensors_
  };
  void add_file(const std::filesystem::path& path);
  void add_shards(const std::filesystem::path& index);
  const SafetensorsFile& file_of(const SafeTensor& tensor) const;

  std::string source_name_;
  std::vector<SafetensorsFile> files_;
  std::vector<std::string> file_names_;  ///< of files_, inside the folder
  std::map<std::string, std::string> metadata_;
  std::vector<SafeTensor> tensors_;
  std::map<std::string, Location> locations_;
};

}  // namespace slipway
