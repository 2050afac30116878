#include <type_traits>

#include "io/model/gguf.hpp"
#include "io/model/gguf_layout.hpp"

namespace slipway {
namespace {

using namespace gguf_layout;

template <class T>
void append(std::string& out, const T& value) {
  static_assert(std::is_arithmetic_v<T>);  // little endian, as every machine that Slipway runs on
  if constexpr (std::is_same_v<T, bool>) out.push_back(value ? '\1' : '\0');
  else out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append(std::string& out, const std::string& text) {
  append(out, static_cast<std::uint64_t>(text.size()));
  out += text;
}

void append(std::string& out, const GgufArray& array) {
  append(out, static_cast<std::uint32_t>(array.index()));
  std::visit(
      [&](const auto& elements) {
        if constexpr (std::is_same_v<std::decay_t<decltype(elements)>, std::monostate>) {
          throw Error(Fault::kBug, "write_gguf: an array without an element type");
        } else {
          using T = typename std::decay_t<decltype(elements)>::value_type;
          append(out, static_cast<std::uint64_t>(elements.size()));
          for (const T& element : elements) append(out, element);
        }
      },
      array);
}

/// Everything before the data section, with its padding.
std::string serialize_header(const GgufMetadata& metadata, std::span<const GgufTensorSpec> tensors) {
  require(!metadata.has("general.alignment"), "write_gguf: the alignment is always 32 and not to be named");
  std::string out(kMagic);
  append(out, kVersion);
  append(out, static_cast<std::uint64_t>(tensors.size()));
  append(out, static_cast<std::uint64_t>(metadata.size()));
  for (const auto& [key, value] : metadata) {
    append(out, key);
    append(out, static_cast<std::uint32_t>(value.index()));
    std::visit([&](const auto& alternative) { append(out, alternative); }, value);
  }

  std::uint64_t offset = 0;
  for (const auto& [tensor, type] : tensors) {
    require(!tensor.name.empty() && tensor.name.size() <= kMaxName,
            join("write_gguf: the name '", tensor.name, "' has not 1 to 63 bytes"));
    require(!tensor.shape.empty() && tensor.shape.size() <= kMaxDimensions && fits(type, tensor.cols()),
            join("write_gguf: ", tensor.name, " has a shape that ", name(type), " cannot hold"));
    append(out, tensor.name);
    append(out, static_cast<std::uint32_t>(tensor.shape.size()));
    std::int64_t elements = 1;
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) {  // fastest first
      append(out, static_cast<std::uint64_t>(*size));
      elements *= *size;
    }
    append(out, static_cast<std::uint32_t>(type));
    append(out, offset);
    offset = round_up(offset + static_cast<std::uint64_t>(bytes_of(type, elements)), kAlignment);
  }
  out.resize(round_up(out.size(), kAlignment), '\0');
  return out;
}

std::uint64_t data_bytes(const GgufTensorSpec& entry) {
  std::int64_t elements = 1;
  for (const std::int64_t size : entry.tensor.shape) elements *= size;
  return static_cast<std::uint64_t>(bytes_of(entry.type, elements));
}

}  // namespace

std::uint64_t gguf_file_bytes(const GgufMetadata& metadata, std::span<const GgufTensorSpec> tensors) {
  std::uint64_t bytes = serialize_header(metadata, tensors).size();
  for (const GgufTensorSpec& entry : tensors) bytes += round_up(data_bytes(entry), kAlignment);
  return bytes;
}

void write_gguf(const std::filesystem::path& path, const GgufMetadata& metadata,
                std::span<const GgufTensorSpec> tensors,
                const std::function<void(std::size_t index, const ByteSink& sink)>& write_tensor) {
  atomic_write_file_with(path, [&](const std::filesystem::path& temporary) {
    FileWriter file(temporary);
    file.write(serialize_header(metadata, tensors));
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      std::uint64_t written = 0;
      write_tensor(i, [&](std::span<const std::byte> bytes) {
        file.write(bytes.data(), bytes.size());
        written += bytes.size();
      });
      const std::uint64_t bytes = data_bytes(tensors[i]);
      require(written == bytes,
              join("write_gguf: ", tensors[i].tensor.name, " gave ", written, " bytes instead of ", bytes));
      file.write(std::string(round_up(bytes, kAlignment) - bytes, '\0'));
    }
    file.close();
  });
}

}  // namespace slipway
