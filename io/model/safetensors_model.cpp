#include "io/model/safetensors_model.hpp"

#include <algorithm>

#include "io/model/hugging_face_config.hpp"

namespace slipway {
namespace {

constexpr const char* kName = "slipway.name";

}  // namespace

HuggingFaceModel::HuggingFaceModel(const std::filesystem::path& folder)
    : file_(folder), spec_(spec_of_config(folder / "config.json")) {
  for (const auto& [key, value] : file_.metadata())
    if (key == kName) spec_.name = value;
    else if (key.starts_with(kProvenancePrefix)) spec_.provenance[key.substr(kProvenancePrefix.size())] = value;

  for (const SafeTensor& entry : file_.tensors()) {
    FileTensor tensor;
    try {
      tensor = from_file_tensor(spec_, ModelFormat::kHuggingFace, entry.tensor);
    } catch (const Error& error) {
      throw Error(Fault::kStorage, join(folder.string(), ": ", error.what()));
    }
    if (spec_.tied && !tensor.parts.empty() && tensor.parts.front().name == "output.weight")
      continue;  // some folders hold a tied head twice
    file_tensors_.push_back(std::move(tensor));
    for (std::size_t part = 0; part < file_tensors_.back().parts.size(); ++part) {
      places_[file_tensors_.back().parts[part].name] = {file_tensors_.size() - 1, part};
      tensors_.push_back(file_tensors_.back().parts[part]);
    }
  }
}

void HuggingFaceModel::read(const std::string& name, std::span<float> out) const {
  const auto found = places_.find(name);
  if (found == places_.end()) throw Error(Fault::kStorage, join("the tensor ", name, " is missing"));
  const FileTensor& tensor = file_tensors_[found->second.tensor];
  const SafeTensor& entry = file_.at(tensor.stored.name);
  if (tensor.parts.size() == 1 && !tensor.transposed) {
    require(std::ssize(out) == tensor.stored.size(), "HuggingFaceModel::read: the span does not fit the tensor");
    return file_.read(entry, out);
  }
  std::vector<float> whole(static_cast<std::size_t>(tensor.stored.size()));
  file_.read(entry, whole);
  take_part(tensor, found->second.part, whole, out);
}

TensorType HuggingFaceModel::stored_as(const std::string& name) const {
  const auto found = places_.find(name);
  if (found == places_.end()) return TensorType::kF32;
  return tensor_type_of(file_.at(file_tensors_[found->second.tensor].stored.name).dtype);
}

void HuggingFaceModel::read_stored(const std::string& name, std::span<std::byte> out) const {
  const auto found = places_.find(name);
  require(found != places_.end(), "HuggingFaceModel::read_stored: there is no such tensor");
  const FileTensor& tensor = file_tensors_[found->second.tensor];
  require(tensor.parts.size() == 1 && !tensor.transposed,
          "HuggingFaceModel::read_stored: the tensor is a part of another, or transposed");
  const std::span<const std::byte> stored = file_.bytes(file_.at(tensor.stored.name));
  require(out.size() == stored.size(), "HuggingFaceModel::read_stored: the span does not fit the tensor");
  std::ranges::copy(stored, out.begin());
}

}  // namespace slipway
