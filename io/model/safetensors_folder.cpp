#include "io/model/safetensors_folder.hpp"

#include <set>

#include "src/core/json.hpp"
#include "src/core/log.hpp"
#include "src/core/words.hpp"

namespace slipway {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

bool file_exists(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

[[noreturn]] void refuse(const std::string& source_name, const std::string& message) {
  throw Error(Fault::kStorage, join(source_name, ": ", message));
}

/// What a folder without the two has instead, and what to do with it.
[[noreturn]] void refuse_no_weights(const fs::path& folder) {
  std::set<std::string> others;
  std::error_code ignored;
  for (fs::directory_iterator entry(folder, ignored), end; !ignored && entry != end; entry.increment(ignored))
    if (entry->path().extension() == ".safetensors") others.insert(entry->path().filename().string());
  const bool has_pickle =
      file_exists(folder / "pytorch_model.bin") || file_exists(folder / "pytorch_model.bin.index.json");
  refuse(folder.string(),
         join("neither ", kSingleFile, " nor ", kIndexFile, " is there; ",
              has_pickle ? "convert pytorch_model.bin with transformers (from_pretrained, then "
                           "save_pretrained writes safetensors)"
              : others.empty()
                  ? "give a Hugging Face folder with its weights in safetensors"
                  : join(*others.begin(),
                         others.size() > 1 ? " and others are there: copy their index here, or " : " is there: ",
                         "rename a file that holds the whole model to ", kSingleFile)));
}

/// Whether `name` has no folder in it: shards are in the same folder as the index.
bool is_plain_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

/// Tensor -> shard, as the index lists them.
std::map<std::string, std::string> read_weight_map(const fs::path& index) {
  const Json json = read_json(index, Fault::kStorage);
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object() ||
      json["weight_map"].empty())
    refuse(index.string(),
           "it has no weight_map of tensors and their files; the file is damaged or no index of shards");
  std::map<std::string, std::string> weight_map;
  for (const auto& [tensor, shard] : json["weight_map"].items()) {
    if (!shard.is_string() || !is_plain_file_name(shard.get<std::string>()))
      refuse(index.string(), join("the tensor ", to_line(Json(tensor)), " would lie in ", to_line(shard),
                                  ", expected the name of a file in the same folder"));
    weight_map[tensor] = shard;
  }
  return weight_map;
}

}  // namespace

SafetensorsFolder::SafetensorsFolder(const fs::path& folder) : source_name_(folder.string()) {
  const bool has_single_file = file_exists(folder / kSingleFile), has_index = file_exists(folder / kIndexFile);
  if (has_single_file && has_index)
    log::warn(join(source_name_, ": ", kSingleFile, " is read, as transformers does, and not the shards of ",
                   kIndexFile, ", which is there too; remove the one that is not meant"));
  if (has_single_file) add_file(folder / kSingleFile);
  else if (has_index) add_shards(folder / kIndexFile);
  else refuse_no_weights(folder);
}

void SafetensorsFolder::add_file(const fs::path& path) {
  files_.emplace_back(path);
  file_names_.push_back(path.filename().string());
  const SafetensorsFile& file = files_.back();
  for (const SafeTensor& entry : file.tensors()) {
    const auto [existing, inserted] =
        locations_.try_emplace(entry.tensor.name, Location{.file = files_.size() - 1, .index = tensors_.size()});
    if (!inserted)
      refuse(source_name_,
             join("the tensor ", entry.tensor.name, " is in ", file_names_[existing->second.file], " and in ",
                  file_names_.back(), ", expected in one of them; the shards belong to different models"));
    tensors_.push_back(entry);
  }
  metadata_.insert(file.metadata().begin(), file.metadata().end());
}

void SafetensorsFolder::add_shards(const fs::path& index) {
  const std::map<std::string, std::string> weight_map = read_weight_map(index);
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : weight_map) shards.insert(shard);
  for (const std::string& shard : shards) {
    if (!file_exists(index.parent_path() / shard))
      refuse(source_name_, join("the shard ", shard, " is missing, one of the ", shards.size(), " that ", kIndexFile,
                                " lists; copy it here"));
    add_file(index.parent_path() / shard);
  }
  for (const auto& [tensor, shard] : weight_map)
    if (const auto found = locations_.find(tensor);
        found == locations_.end() || file_names_[found->second.file] != shard)
      refuse(source_name_, join("the tensor ", tensor, " is not in ", shard, ", where ", kIndexFile,
                                " lists it; the index and the shards belong to different models"));
  for (const auto& [tensor, location] : locations_)
    if (!weight_map.contains(tensor))
      refuse(source_name_, join("the tensor ", tensor, " of ", file_names_[location.file], " is not listed in ",
                                kIndexFile, "; the index and the shards belong to different models"));
}

const SafeTensor& SafetensorsFolder::at(const std::string& name) const {
  if (const auto location = locations_.find(name); location != locations_.end())
    return tensors_[location->second.index];
  throw Error(Fault::kStorage, join(source_name_, ": the tensor ", name, " is missing"));
}

const SafetensorsFile& SafetensorsFolder::file_of(const SafeTensor& tensor) const {
  const auto location = locations_.find(tensor.tensor.name);
  require(location != locations_.end(), "SafetensorsFolder: the tensor is none of this folder's");
  return files_[location->second.file];
}

}  // namespace slipway
