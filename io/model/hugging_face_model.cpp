#include "io/model/hugging_face_model.hpp"

#include <algorithm>

#include "io/model/hugging_face_config.hpp"

namespace slipway {
namespace {

constexpr const char* kNameKey = "slipway.name";

}  // namespace

HuggingFaceModel::HuggingFaceModel(const std::filesystem::path& folder)
    : file_(folder), spec_(spec_of_config(folder / "config.json")), tensors_(folder.string()) {
  for (const auto& [key, value] : file_.metadata())
    if (key == kNameKey) spec_.name = value;
    else if (key.starts_with(kProvenancePrefix)) spec_.provenance[key.substr(kProvenancePrefix.size())] = value;

  for (const SafeTensor& entry : file_.tensors())
    if (tensors_.add(spec_, ModelFormat::kHuggingFace, entry.tensor) && !entry.other_dtype.empty())
      file_.read(entry, {});  // refuses the type
  if (spec_.tied) check_tied_head(folder);
}

/// A stored head must equal the embedding it is tied to: versions of transformers differ in which one they use.
void HuggingFaceModel::check_tied_head(const std::filesystem::path& folder) const {
  constexpr const char* kHead = "lm_head.weight";
  if (!file_.has(kHead)) return;
  const SafeTensor &head = file_.at(kHead), &embedding = file_.at(tensors_.at("token_embd.weight").tensor.stored.name);
  if (head.dtype == embedding.dtype && std::ranges::equal(file_.bytes(head), file_.bytes(embedding))) return;
  throw Error(Fault::kStorage,
              join(folder.string(), ": ", kHead, " is not ", embedding.tensor.name,
                   ", although config.json ties them; set tie_word_embeddings to false there, or remove ", kHead));
}

void HuggingFaceModel::read(const std::string& name, std::span<float> out) const {
  const FileTensors::Part part = tensors_.at(name);
  const SafeTensor& entry = file_.at(part.tensor.stored.name);
  if (part.is_entire_tensor()) {
    require(std::ssize(out) == part.info().size(), "HuggingFaceModel::read: the span does not fit the tensor");
    return file_.read(entry, out);
  }
  std::vector<float> stored_values(static_cast<std::size_t>(part.tensor.stored.size()));
  file_.read(entry, stored_values);
  extract_part(part.tensor, part.index, stored_values, out);
}

TensorType HuggingFaceModel::stored_type(const std::string& name) const {
  const std::optional<FileTensors::Part> found = tensors_.find(name);
  return found ? tensor_type_of(file_.at(found->tensor.stored.name).dtype) : TensorType::kF32;
}

void HuggingFaceModel::read_stored(const std::string& name, std::span<std::byte> out) const {
  const FileTensors::Part part = tensors_.at(name);
  require(part.is_entire_tensor(), "HuggingFaceModel::read_stored: the tensor is a part of another, or transposed");
  const std::span<const std::byte> stored = file_.bytes(file_.at(part.tensor.stored.name));
  require(out.size() == stored.size(), "HuggingFaceModel::read_stored: the span does not fit the tensor");
  std::ranges::copy(stored, out.begin());
}

}  // namespace slipway
