#include "io/checkpoint/manifest.hpp"

#include <algorithm>
#include <tuple>

#include "src/core/clock.hpp"
#include "src/core/file.hpp"
#include "src/core/hash.hpp"
#include "src/core/json_error.hpp"
#include "src/core/json_number.hpp"

namespace slipway {
namespace {

constexpr char kSchema[] = "slipway.checkpoint";
// Far above any model; four bytes times two such axes stay inside an int64.
constexpr std::int64_t kMaxAxisSize = std::int64_t{1} << 30;

Json to_json(const CheckpointInfo& info) {
  return {{"kind", info.kind},
          {"step", info.step},
          {"run_id", info.run_id},
          {"layout", {{"data", info.layout.data}, {"tensor", info.layout.tensor}, {"pipeline", info.layout.pipeline}}},
          {"config", info.config},
          {"architecture", info.architecture},
          {"data", info.data},
          {"random", info.random},
          {"history", info.history},
          {"build", info.build},
          {"sections", info.sections},
          {"tokenizer", info.tokenizer}};
}

CheckpointInfo checkpoint_info(const Json& json) {
  CheckpointInfo info;
  info.kind = json.at("kind");
  info.step = checked_count<std::int64_t>(json.at("step"));
  info.run_id = json.at("run_id");
  const Json& layout = json.at("layout");
  info.layout = {checked_count<int>(layout.at("data")), checked_count<int>(layout.at("tensor")),
                 checked_count<int>(layout.at("pipeline"))};
  info.config = json.at("config");
  info.architecture = json.at("architecture");
  info.data = json.at("data");
  info.random = json.at("random");
  info.history = json.at("history");
  info.build = json.at("build");
  info.sections = json.at("sections");
  info.tokenizer = json.at("tokenizer");
  return info;
}

/// The one line of manifest.sha256, as `sha256sum` writes it, so that `sha256sum -c` can check it.
std::string hash_line(const std::string& manifest_text) {
  return sha256_hex(manifest_text) + "  " + kManifestName + "\n";
}

/// Checks that the slices of a tensor, ordered by offset, cover each of its elements exactly once. Errors: `fault`.
void check_coverage(const StoredTensor& tensor, Fault fault) {
  const auto fail = [&](const char* what) {
    throw Error(fault, join("the slices of ", tensor.kind, " of ", tensor.name, " ", what));
  };
  const auto [rows, cols] = rows_cols(tensor.shape);
  if (rows < 1 || cols < 1 || rows > kMaxAxisSize || cols > kMaxAxisSize) fail("belong to an impossible shape");
  std::int64_t covered = 0;
  for (std::size_t i = 0; i < tensor.slices.size(); ++i) {
    const Box& a = tensor.slices[i].region;
    const auto fits = [](std::int64_t offset, std::int64_t extent, std::int64_t size) {
      return offset >= 0 && extent > 0 && extent <= size && offset <= size - extent;
    };
    if (!fits(a.offset[0], a.extent[0], rows) || !fits(a.offset[1], a.extent[1], cols)) fail("leave the tensor");
    if (i > 0 && a.offset < tensor.slices[i - 1].region.offset) fail("are not in the order of their places");
    covered += a.extent[0] * a.extent[1];
    if (covered > rows * cols) fail("overlap");  // before the sum can overflow
    // O(n^2) in slices that share rows; fast enough below 1,000 of them.
    for (std::size_t j = i + 1; j < tensor.slices.size(); ++j) {
      const Box& b = tensor.slices[j].region;
      if (b.offset[0] >= a.offset[0] + a.extent[0]) break;
      if (intersect(a, b)) fail("overlap");
    }
  }
  if (covered != rows * cols) fail("leave a gap");
}

int kind_order(const std::string& kind) { return kind == "value" ? 0 : 1; }

/// Whether `name` names a file in the same folder: not empty, no slash, not "." or "..".
bool is_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos;
}

/// Checks that file names stay in the folder, and that slices lie within their files. Errors: Fault::kStorage.
void check_file_ranges(const Manifest& manifest) {
  for (const StoredFile& file : manifest.files)
    if (!is_file_name(file.name))
      throw Error(Fault::kStorage, join("the file name \"", file.name, "\" leaves the folder"));
  for (const StoredTensor& tensor : manifest.tensors) {
    if (tensor.dtype != "f32") throw Error(Fault::kStorage, join(tensor.name, " has the unknown type ", tensor.dtype));
    if (tensor.shape.empty() || tensor.shape.size() > 2)
      throw Error(Fault::kStorage, join(tensor.name, " has ", tensor.shape.size(), " axes, expected one or two"));
    check_coverage(tensor, Fault::kStorage);
    for (const StoredSlice& slice : tensor.slices) {
      if (slice.file < 0 || slice.file >= static_cast<int>(manifest.files.size()))
        throw Error(Fault::kStorage, join(tensor.name, " lies in a file that is not listed"));
      const std::uint64_t size = manifest.files[static_cast<std::size_t>(slice.file)].bytes;
      if (slice.byte_offset > size || slice.bytes() > size - slice.byte_offset)
        throw Error(Fault::kStorage, join(tensor.name, " lies beyond the end of its file"));
    }
  }
}

/// Errors: Fault::kStorage, or the JSON library's own exceptions where a key is missing or of another type.
Manifest decode_manifest(const Json& json) {
  if (!json.is_object() || json.value("schema", "") != kSchema)
    throw Error(Fault::kStorage, join("it is foreign: its schema is not ", kSchema));
  if (const int version = checked_integer<int>(json.at("schema_version")); version < 1 || version > kCheckpointVersion)
    throw Error(Fault::kStorage, join("it has format version ", version, " and this program reads up to ",
                                      kCheckpointVersion, ": use a newer Slipway"));
  Manifest manifest{checkpoint_info(json), {}, {}};
  for (const Json& file : json.at("files")) manifest.files.push_back(stored_file(file));
  for (const Json& tensor : json.at("tensors")) manifest.tensors.push_back(stored_tensor(tensor));
  if (manifest.info.kind != "full")
    throw Error(Fault::kStorage, join("it is of kind \"", manifest.info.kind,
                                      "\" and this program reads full ones: use a newer Slipway"));
  for (const Json* section :
       {&manifest.info.config, &manifest.info.architecture, &manifest.info.data, &manifest.info.random,
        &manifest.info.history, &manifest.info.build, &manifest.info.sections})
    if (!section->is_object()) throw Error(Fault::kStorage, "one of its sections is no JSON object");
  check_file_ranges(manifest);
  return manifest;
}

}  // namespace

Json to_json(const StoredTensor& tensor) {
  Json slices = Json::array();
  for (const StoredSlice& slice : tensor.slices)
    slices.push_back({{"file", slice.file},
                      {"dataset", slice.dataset},
                      {"offset", slice.region.offset},
                      {"extent", slice.region.extent},
                      {"byte", slice.byte_offset},
                      {"xxh3", slice.xxh3}});
  return {{"name", tensor.name},
          {"kind", tensor.kind},
          {"dtype", tensor.dtype},
          {"shape", tensor.shape},
          {"slices", slices}};
}

StoredTensor stored_tensor(const Json& json) {
  StoredTensor tensor{json.at("name"), json.at("kind"), json.at("dtype"), json.at("shape"), {}};
  for (const Json& slice : json.at("slices"))
    tensor.slices.push_back({{slice.at("offset"), slice.at("extent")},
                             checked_count<int>(slice.at("file")),
                             slice.at("dataset"),
                             checked_count<std::uint64_t>(slice.at("byte")),
                             slice.at("xxh3")});
  return tensor;
}

Json to_json(const StoredFile& file) { return {{"name", file.name}, {"bytes", file.bytes}, {"xxh3", file.xxh3}}; }
StoredFile stored_file(const Json& json) {
  return {json.at("name"), checked_count<std::uint64_t>(json.at("bytes")), json.at("xxh3")};
}

std::uint64_t Manifest::bytes() const {
  std::uint64_t sum = 0;
  for (const StoredFile& file : files) sum += file.bytes;
  return sum;
}

void sort_and_validate(Manifest& manifest) {
  std::ranges::sort(manifest.tensors, {}, [](const StoredTensor& tensor) {
    return std::tuple(kind_order(tensor.kind), tensor.kind, tensor.name);
  });
  for (StoredTensor& tensor : manifest.tensors) {
    std::ranges::sort(tensor.slices, {}, [](const StoredSlice& slice) { return slice.region.offset; });
    check_coverage(tensor, Fault::kBug);
  }
}

void write_manifest(const std::filesystem::path& folder, const Manifest& manifest) {
  Json json = {{"schema", kSchema}, {"schema_version", kCheckpointVersion}, {"written_utc", utc_now()}};
  json.update(to_json(manifest.info));
  json["files"] = Json::array();
  for (const StoredFile& file : manifest.files) json["files"].push_back(to_json(file));
  json["tensors"] = Json::array();
  for (const StoredTensor& tensor : manifest.tensors) json["tensors"].push_back(to_json(tensor));

  std::string text;
  try {
    text = json.dump(1) + "\n";
  } catch (const nlohmann::json::exception& reason) {  // text that is not UTF-8 must not be altered silently
    throw Error(Fault::kBug,
                join("the manifest of step ", manifest.info.step, " cannot be written: ", reason_of(reason)));
  }
  atomic_write_file(folder / kManifestName, text);
  atomic_write_file(folder / kManifestHashName, hash_line(text));
}

Manifest read_manifest(const std::filesystem::path& folder) {
  const auto make_error = [&](const auto&... reason) -> Error {
    return {Fault::kStorage, join("checkpoint ", folder.string(), ": ", reason...)};
  };
  const std::filesystem::path manifest = folder / kManifestName, hash = folder / kManifestHashName;
  if (!std::filesystem::is_directory(folder)) throw make_error("there is no such folder");
  if (!std::filesystem::exists(manifest))
    throw make_error("there is no ", kManifestName, " in it, so it is not a whole Slipway checkpoint");
  if (!std::filesystem::exists(hash)) throw make_error(kManifestHashName, " is missing");
  for (const auto& file : {manifest, hash})  // a pipe or a device would be read for ever
    if (!std::filesystem::is_regular_file(file)) throw make_error(file.filename().string(), " is no regular file");

  const std::string text = read_file(manifest, Fault::kStorage);
  if (read_file(hash, Fault::kStorage) != hash_line(text))
    throw make_error(kManifestName, " does not have the hash that ", kManifestHashName,
                     " states: one of the two is damaged");
  try {
    return decode_manifest(parse_json(text, FileLocation{manifest}, Fault::kStorage));
  } catch (const nlohmann::json::exception& reason) {
    throw make_error(kManifestName, " is not as Slipway writes it (", reason_of(reason), ")");
  } catch (const Error& reason) {
    throw make_error(reason.what());
  }
}

}  // namespace slipway
