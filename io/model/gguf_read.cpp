#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

#include "io/model/gguf.hpp"
#include "io/model/gguf_layout.hpp"
#include "src/core/git_lfs.hpp"

namespace slipway {
namespace {

using namespace gguf_layout;

/// A tensor type of ggml; its block size is needed to find the next tensor, even where Slipway cannot decode it.
struct GgmlType {
  std::uint32_t id;
  std::string_view name;
  std::uint64_t block_size;  ///< elements of a block
  std::uint64_t type_size;   ///< bytes of a block
  bool supported;
};
constexpr std::array<GgmlType, 14> kGgmlTypes = {{{0, "F32", 1, 4, true},
                                                  {1, "F16", 1, 2, true},
                                                  {2, "Q4_0", 32, 18, true},
                                                  {3, "Q4_1", 32, 20, false},
                                                  {6, "Q5_0", 32, 22, false},
                                                  {7, "Q5_1", 32, 24, false},
                                                  {8, "Q8_0", 32, 34, true},
                                                  {10, "Q2_K", 256, 84, false},
                                                  {11, "Q3_K", 256, 110, false},
                                                  {12, "Q4_K", 256, 144, false},
                                                  {13, "Q5_K", 256, 176, false},
                                                  {14, "Q6_K", 256, 210, false},
                                                  {28, "F64", 1, 8, false},
                                                  {30, "BF16", 1, 2, true}}};

const GgmlType* ggml_type(std::uint32_t id) {
  const auto found =
      std::find_if(kGgmlTypes.begin(), kGgmlTypes.end(), [&](const GgmlType& type) { return type.id == id; });
  return found == kGgmlTypes.end() ? nullptr : &*found;
}

/// Text from a file, quoted for an error message: shortened, with every character but printable ASCII replaced.
std::string quote_for_message(std::string_view text) {
  constexpr std::size_t kMax = 80;
  std::string out = "'";
  for (const char c : text.substr(0, kMax)) out += c >= ' ' && c <= '~' ? c : '?';
  return out + (text.size() > kMax ? "...'" : "'");
}

/// Reads fields in sequence, with bounds checks.
class Cursor {
 public:
  Cursor(std::string_view bytes, std::string source_name) : bytes_(bytes), source_name_(std::move(source_name)) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(Fault::kStorage,
                join(source_name_, ": ", what, "; the file is damaged or no model that Slipway can read"));
  }

  std::string_view read_bytes(std::uint64_t count, const char* field) {
    if (count > remaining())
      fail(join("the file ends inside ", field, " (", count, " bytes wanted, ", remaining(), " left)"));
    const std::string_view bytes = bytes_.substr(position_, count);
    position_ += count;
    return bytes;
  }

  template <class T>
  T read_number(const char* field) {
    T value;
    std::memcpy(&value, read_bytes(sizeof value, field).data(), sizeof value);
    return value;
  }

  std::string read_string(const char* field, std::uint64_t max_length) {
    const auto length = read_number<std::uint64_t>(field);
    if (length > max_length) fail(join(field, " has ", length, " bytes, at most ", max_length, " are allowed"));
    return std::string(read_bytes(length, field));
  }

  /// Reads a count of items of at least `min_item_bytes` each. Fails when the rest of the file is too short for them,
  /// so that nothing is allocated for a false count.
  std::uint64_t read_count(const char* field, std::uint64_t min_item_bytes) {
    const auto count = read_number<std::uint64_t>(field);
    if (count > remaining() / min_item_bytes) fail(join(field, " is ", count, ", more than the file has room for"));
    return count;
  }

  std::uint64_t remaining() const { return bytes_.size() - position_; }
  std::uint64_t position() const { return position_; }

 private:
  std::string_view bytes_;
  std::string source_name_;
  std::uint64_t position_ = 0;
};

template <class T>
T read_element(Cursor& cursor, const char* field) {
  if constexpr (std::is_same_v<T, std::string>) {
    return cursor.read_string(field, cursor.remaining());
  } else if constexpr (std::is_same_v<T, bool>) {
    const auto byte = cursor.read_number<std::uint8_t>(field);
    if (byte > 1) cursor.fail(join(field, " is a bool of value ", int{byte}));
    return byte == 1;
  } else {
    return cursor.read_number<T>(field);
  }
}

/// Calls `read` with a value of the variant's alternative `index`; returns false when there is none.
template <class Variant, class Read, std::size_t... I>
bool with_alternative(std::size_t index, Read&& read, std::index_sequence<I...>) {
  return ((I == index && (read(std::variant_alternative_t<I, Variant>{}), true)) || ...);
}

template <class Variant, class Read>
bool with_alternative(std::size_t index, Read&& read) {
  return with_alternative<Variant>(index, read, std::make_index_sequence<std::variant_size_v<Variant>>{});
}

GgufArray read_array(Cursor& cursor) {
  const auto type = cursor.read_number<std::uint32_t>("an array's element type");
  GgufArray array;
  const bool is_known_type = with_alternative<GgufArray>(type, [&](auto elements) {
    if constexpr (std::is_same_v<decltype(elements), std::monostate>) {
      cursor.fail("an array of arrays");
    } else {
      using T = typename decltype(elements)::value_type;
      constexpr std::uint64_t kMinBytes = std::is_same_v<T, std::string> ? sizeof(std::uint64_t) : sizeof(T);
      const std::uint64_t count = cursor.read_count("an array's length", kMinBytes);
      elements.reserve(count);
      for (std::uint64_t i = 0; i < count; ++i) elements.push_back(read_element<T>(cursor, "an array's element"));
      array = std::move(elements);
    }
  });
  if (!is_known_type) cursor.fail(join("an array of elements of type ", type, ", which GGUF does not have"));
  return array;
}

GgufValue read_value(Cursor& cursor, const std::string& key) {
  const auto type = cursor.read_number<std::uint32_t>("a value's type");
  GgufValue value;
  const bool is_known_type = with_alternative<GgufValue>(type, [&](auto alternative) {
    if constexpr (std::is_same_v<decltype(alternative), GgufArray>) value = read_array(cursor);
    else value = read_element<decltype(alternative)>(cursor, "a value");
  });
  if (!is_known_type)
    cursor.fail(join("the key ", quote_for_message(key), " has a value of type ", type, ", which GGUF does not have"));
  return value;
}

GgufTensor read_tensor_info(Cursor& cursor) {
  GgufTensor entry;
  TensorInfo& tensor = entry.tensor;
  tensor.name = cursor.read_string("a tensor's name", kMaxName);
  if (tensor.name.empty()) cursor.fail("a tensor without a name");
  const auto dimensions = cursor.read_number<std::uint32_t>("a tensor's number of dimensions");
  if (dimensions == 0 || dimensions > kMaxDimensions)
    cursor.fail(join("the tensor ", quote_for_message(tensor.name), " has ", dimensions, " dimensions, expected 1 to ",
                     kMaxDimensions));

  std::int64_t elements = 1;
  for (std::uint32_t d = 0; d < dimensions; ++d) {
    const auto size = static_cast<std::int64_t>(cursor.read_number<std::uint64_t>("a tensor's size"));
    if (size <= 0 || __builtin_mul_overflow(elements, size, &elements))
      cursor.fail(join("the tensor ", quote_for_message(tensor.name), " has an impossible size ",
                       static_cast<std::uint64_t>(size)));
    tensor.shape.insert(tensor.shape.begin(), size);
  }

  entry.type = cursor.read_number<std::uint32_t>("a tensor's type");
  const GgmlType* type = ggml_type(entry.type);
  if (type == nullptr)
    cursor.fail(
        join("the tensor ", quote_for_message(tensor.name), " has type ", entry.type, ", which Slipway does not know"));
  if (static_cast<std::uint64_t>(tensor.cols()) % type->block_size != 0)
    cursor.fail(join("the tensor ", quote_for_message(tensor.name), " has rows of ", tensor.cols(),
                     " elements, which breaks the blocks of ", type->name));
  const std::uint64_t blocks = static_cast<std::uint64_t>(elements) / type->block_size;
  if (__builtin_mul_overflow(blocks, type->type_size, &entry.bytes))
    cursor.fail(join("the tensor ", quote_for_message(tensor.name), " is larger than any file"));
  entry.offset = cursor.read_number<std::uint64_t>("a tensor's offset");
  return entry;
}

std::uint64_t alignment_of(const Cursor& cursor, const GgufMetadata& metadata) {
  const std::int64_t alignment = metadata.integer("general.alignment", static_cast<std::int64_t>(kAlignment));
  constexpr std::int64_t kMaxAlignment = 1 << 20;
  if (alignment < 1 || alignment > kMaxAlignment || (alignment & (alignment - 1)) != 0)
    cursor.fail(join("general.alignment is ", alignment, ", expected a power of two up to ", kMaxAlignment));
  return static_cast<std::uint64_t>(alignment);
}

}  // namespace

GgufFile::GgufFile(const std::filesystem::path& path) : file_(path, Fault::kStorage), metadata_(path.string()) {
  Cursor cursor(file_.text(), path.string());
  if (file_.text().starts_with(kGitLfsPrefix))
    throw Error(Fault::kStorage, join(path.string(), ": this is ", kGitLfsDescription, "; ", kGitLfsHint));
  if (file_.text().substr(0, kMagic.size()) != kMagic)
    throw Error(Fault::kStorage, join(path.string(), ": this is no GGUF: it begins with ",
                                      quote_for_message(file_.text().substr(0, kMagic.size())), " instead of 'GGUF'"));
  cursor.read_bytes(kMagic.size(), "the magic");
  if (const auto version = cursor.read_number<std::uint32_t>("the version"); version != 2 && version != kVersion)
    cursor.fail(join("GGUF version ", version, ", expected 2 or ", kVersion));

  constexpr std::uint64_t kMinTensorInfoBytes = 8 + 1 + 4 + 8 + 4 + 8;  // name of one byte, one dimension
  constexpr std::uint64_t kMinKeyValueBytes = 8 + 1 + 4 + 1;            // key of one byte, a u8
  const std::uint64_t tensor_count = cursor.read_count("the number of tensors", kMinTensorInfoBytes);
  const std::uint64_t pair_count = cursor.read_count("the number of keys", kMinKeyValueBytes);

  for (std::uint64_t i = 0; i < pair_count; ++i) {
    std::string key = cursor.read_string("a key", kMaxKey);
    if (key.empty() || metadata_.has(key))
      cursor.fail(join("the key ", quote_for_message(key), " is empty or there twice"));
    GgufValue value = read_value(cursor, key);
    metadata_.add(std::move(key), std::move(value));
  }

  tensors_.reserve(tensor_count);
  for (std::uint64_t i = 0; i < tensor_count; ++i) {
    tensors_.push_back(read_tensor_info(cursor));
    if (!indices_.emplace(tensors_.back().tensor.name, i).second)
      cursor.fail(join("the tensor ", quote_for_message(tensors_.back().tensor.name), " is there twice"));
  }

  const std::uint64_t alignment = alignment_of(cursor, metadata_);
  const std::uint64_t file_size = file_.bytes().size();
  const std::uint64_t data_start = round_up(cursor.position(), alignment);
  std::uint64_t expected_offset = 0;
  for (GgufTensor& entry : tensors_) {
    if (entry.offset != expected_offset)
      cursor.fail(join("the tensor ", quote_for_message(entry.tensor.name), " has offset ", entry.offset, ", expected ",
                       expected_offset));
    if (data_start > file_size || entry.offset > file_size - data_start ||
        entry.bytes > file_size - data_start - entry.offset)
      cursor.fail(join("the file ends inside the tensor ", quote_for_message(entry.tensor.name), " (", file_size,
                       " bytes are there)"));
    expected_offset = round_up(entry.offset + entry.bytes, alignment);
    entry.offset += data_start;
  }
}

const GgufTensor& GgufFile::at(std::string_view name) const {
  if (const auto found = indices_.find(name); found != indices_.end()) return tensors_[found->second];
  throw Error(Fault::kStorage, join(metadata_.source_name(), ": the tensor ", name, " is missing"));
}

std::span<const std::byte> GgufFile::bytes(const GgufTensor& tensor) const {
  return file_.bytes().subspan(tensor.offset, tensor.bytes);
}

void GgufFile::check_supported(const GgufTensor& tensor) const {
  const GgmlType* type = ggml_type(tensor.type);
  require(type != nullptr, "GgufFile::read: the tensor is of no GGUF");
  if (!type->supported)
    throw Error(Fault::kStorage,
                join(metadata_.source_name(), ": ", tensor.tensor.name, " is stored as ", type->name,
                     "; Slipway decodes F32, F16, BF16, Q8_0 and Q4_0, so convert the model to one of those"));
}

void GgufFile::read(const GgufTensor& tensor, std::span<float> out) const {
  check_supported(tensor);
  decode(static_cast<TensorType>(tensor.type), bytes(tensor), out);
}

}  // namespace slipway
