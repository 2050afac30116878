#include "io/model/safetensors.hpp"

#include <algorithm>
#include <cstring>

#include "src/core/git_lfs.hpp"
#include "src/core/json.hpp"

namespace slipway {
namespace {

constexpr std::uint64_t kHeaderLengthBytes = 8;         // the header's length, little endian, at the file's start
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit
constexpr std::uint64_t kAlignment = 8;
constexpr const char* kMetadata = "__metadata__";

const char* type_name(DType dtype) {
  switch (dtype) {
    case DType::kF32: return "F32";
    case DType::kBf16: return "BF16";
    case DType::kF16: return "F16";
  }
  return "";
}

std::uint64_t element_bytes(const SafeTensor& entry) { return entry.other_dtype.empty() ? bytes_of(entry.dtype) : 1; }

std::uint64_t data_bytes(const SafeTensor& entry) {
  return static_cast<std::uint64_t>(entry.tensor.size()) * element_bytes(entry);
}

std::string serialize_header(const std::map<std::string, std::string>& metadata, std::span<const SafeTensor> tensors) {
  Json json = Json::object();
  if (!metadata.empty()) json[kMetadata] = metadata;
  std::uint64_t offset = 0;
  for (const SafeTensor& entry : tensors) {
    const std::uint64_t end = offset + data_bytes(entry);
    json.push_back({entry.tensor.name,
                    {{"dtype", entry.other_dtype.empty() ? type_name(entry.dtype) : entry.other_dtype.c_str()},
                     {"shape", entry.tensor.shape},
                     {"data_offsets", {offset, end}}}});
    offset = end;
  }
  std::string text = to_line(json);
  text.resize((text.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  return text;
}

[[noreturn]] void fail(const std::string& source_name, const std::string& what) {
  throw Error(Fault::kStorage, join(source_name, ": ", what, "; the file is damaged or no safetensors file"));
}

[[noreturn]] void refuse_dtype(const std::string& source_name, const std::string& tensor, const std::string& dtype) {
  throw Error(Fault::kStorage, join(source_name, ": the tensor ", to_line(Json(tensor)), " is stored as ",
                                    to_line(Json(dtype)), ", but Slipway reads F32, F16 and BF16; convert it"));
}

/// One entry of the header, checked against the data section's size.
SafeTensor read_entry(const std::string& source_name, const std::string& name, const Json& json,
                      std::uint64_t data_size) {
  SafeTensor entry;
  entry.tensor.name = name;
  const std::string printable_name = to_line(Json(name));
  const auto is_size = [](const Json& number) { return number.is_number_unsigned(); };
  if (!json.is_object() || !json.contains("dtype") || !json.contains("shape") || !json.contains("data_offsets") ||
      !json["dtype"].is_string() || !json["shape"].is_array() || !json["data_offsets"].is_array() ||
      json["data_offsets"].size() != 2 || !std::all_of(json["shape"].begin(), json["shape"].end(), is_size) ||
      !std::all_of(json["data_offsets"].begin(), json["data_offsets"].end(), is_size))
    fail(source_name, join("the tensor ", printable_name, " lacks a dtype, shape or data_offsets of the right kind"));

  const std::string type = json["dtype"];
  if (type == "F32") entry.dtype = DType::kF32;
  else if (type == "F16") entry.dtype = DType::kF16;
  else if (type == "BF16") entry.dtype = DType::kBf16;
  else if (type == "BOOL" || type == "U8") entry.other_dtype = type;  // masks, which nobody reads
  else refuse_dtype(source_name, name, type);

  const std::uint64_t begin = json["data_offsets"][0], end = json["data_offsets"][1];
  if (begin > end || end > data_size)
    fail(source_name, join("the tensor ", printable_name, " lies at bytes ", begin, " to ", end, " of ", data_size));
  std::int64_t elements = 1;
  for (const Json& length : json["shape"]) {
    const auto size = static_cast<std::int64_t>(length.get<std::uint64_t>());
    if (size <= 0 || __builtin_mul_overflow(elements, size, &elements))
      fail(source_name, join("the tensor ", printable_name, " has an impossible shape"));
    entry.tensor.shape.push_back(size);
  }
  if (entry.tensor.shape.empty()) entry.tensor.shape.push_back(1);  // a scalar
  if ((end - begin) % element_bytes(entry) != 0 ||
      (end - begin) / element_bytes(entry) != static_cast<std::uint64_t>(elements))
    fail(source_name,
         join("the tensor ", printable_name, " has ", end - begin, " bytes, which its shape and type contradict"));
  entry.offset = begin;
  return entry;
}

}  // namespace

TensorType tensor_type_of(DType dtype) {
  switch (dtype) {
    case DType::kF32: return TensorType::kF32;
    case DType::kBf16: return TensorType::kBf16;
    case DType::kF16: return TensorType::kF16;
  }
  return TensorType::kF32;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : source_name_(path.string()), file_(path, Fault::kStorage) {
  const std::string_view text = file_.text();
  if (text.starts_with(kGitLfsPrefix))
    throw Error(Fault::kStorage, join(source_name_, ": this is ", kGitLfsDescription, "; ", kGitLfsHint));
  std::uint64_t header_bytes = 0;
  if (text.size() < kHeaderLengthBytes) fail(source_name_, join("it has only ", text.size(), " bytes"));
  std::memcpy(&header_bytes, text.data(), kHeaderLengthBytes);
  if (header_bytes > kMaxHeaderBytes || header_bytes > text.size() - kHeaderLengthBytes)
    fail(source_name_, join("the header would have ", header_bytes, " bytes, the file has ", text.size()));
  const Json json = parse_json(text.substr(kHeaderLengthBytes, header_bytes), FileLocation{path}, Fault::kStorage);
  if (!json.is_object()) fail(source_name_, "the header is no JSON object");

  const std::uint64_t data_start = kHeaderLengthBytes + header_bytes;
  for (const auto& [name, value] : json.items()) {
    if (name != kMetadata) {
      tensors_.push_back(read_entry(source_name_, name, value, text.size() - data_start));
      continue;
    }
    if (!value.is_object()) fail(source_name_, "the metadata is no JSON object");
    for (const auto& [key, metadata_value] : value.items()) {
      if (!metadata_value.is_string()) fail(source_name_, "the metadata holds something that is no text");
      metadata_[key] = metadata_value;
    }
  }

  std::stable_sort(tensors_.begin(), tensors_.end(),
                   [](const SafeTensor& a, const SafeTensor& b) { return a.offset < b.offset; });
  std::uint64_t expected_offset = 0;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    SafeTensor& entry = tensors_[i];
    const std::string printable_name = to_line(Json(entry.tensor.name));
    if (entry.offset != expected_offset)
      fail(source_name_,
           join("the tensor ", printable_name, " begins at byte ", entry.offset, ", expected ", expected_offset));
    if (!indices_.emplace(entry.tensor.name, i).second)
      fail(source_name_, join("the tensor ", printable_name, " is there twice"));
    expected_offset += data_bytes(entry);
    entry.offset += data_start;
  }
  if (expected_offset != text.size() - data_start)
    fail(source_name_,
         join("the tensors take ", expected_offset, " bytes, but ", text.size() - data_start, " are there"));
}

const SafeTensor& SafetensorsFile::at(const std::string& name) const {
  if (const auto location = indices_.find(name); location != indices_.end()) return tensors_[location->second];
  throw Error(Fault::kStorage, join(source_name_, ": the tensor ", name, " is missing"));
}

std::span<const std::byte> SafetensorsFile::bytes(const SafeTensor& tensor) const {
  return file_.bytes().subspan(tensor.offset, data_bytes(tensor));
}

void SafetensorsFile::read(const SafeTensor& tensor, std::span<float> out) const {
  if (!tensor.other_dtype.empty()) refuse_dtype(source_name_, tensor.tensor.name, tensor.other_dtype);
  decode(tensor_type_of(tensor.dtype), bytes(tensor), out);
}

void write_safetensors(const std::filesystem::path& path, const std::map<std::string, std::string>& metadata,
                       std::span<const SafeTensor> tensors,
                       const std::function<void(std::size_t index, const ByteSink& sink)>& write_tensor) {
  atomic_write_file_with(path, [&](const std::filesystem::path& temporary) {
    const std::string header_json = serialize_header(metadata, tensors);
    const std::uint64_t header_bytes = header_json.size();
    FileWriter file(temporary);
    file.write(&header_bytes, kHeaderLengthBytes);
    file.write(header_json);
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const std::uint64_t begin = file.position();
      write_tensor(i, [&](std::span<const std::byte> bytes) { file.write(bytes.data(), bytes.size()); });
      require(file.position() - begin == data_bytes(tensors[i]),
              join("write_safetensors: ", tensors[i].tensor.name, " gave other bytes than its shape holds"));
    }
    file.close();
  });
}

}  // namespace slipway
