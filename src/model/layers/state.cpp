#include "src/model/layers/state.hpp"

#include <cstring>

#include "io/model/model_spec_json.hpp"
#include "src/core/hash.hpp"
#include "src/core/json_number.hpp"

namespace slipway {
namespace {

constexpr std::string_view kMagic = "SLPSTATE";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kHashDigits = 32;  // of XXH3-128

struct Preamble {
  char magic[8];
  std::uint32_t version, header_bytes;
};
static_assert(sizeof(Preamble) == 16);

std::size_t bytes_of(const TensorView& matrix) {
  return static_cast<std::size_t>(matrix.size()) * bytes_of(matrix.dtype);
}

/// "12 x 64 bf16", for messages.
std::string shape_text(int rows, int cols, std::string_view dtype) { return join(rows, " x ", cols, " ", dtype); }

template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  throw Error(Fault::kStorage, join("the saved state ", parts...));
}

/// A part of a saved state: its header, and the bytes of its matrices.
struct Sections {
  Json header;
  std::string_view matrices;
};

/// Parses a saved state and checks everything that does not depend on the model.
Sections sections_of(std::string_view bytes) {
  Preamble preamble;
  if (bytes.size() < sizeof preamble + kHashDigits || !bytes.starts_with(kMagic))
    refuse("does not begin with ", kMagic, ", or ends before its header: it is something else, or cut off");
  std::memcpy(&preamble, bytes.data(), sizeof preamble);
  if (preamble.version != kVersion)
    refuse("has format version ", preamble.version, ", expected ", kVersion,
           ": restore it with the Slipway that saved it");
  const std::string_view body = bytes.substr(0, bytes.size() - kHashDigits), hash = bytes.substr(body.size());
  if (xxh3_hex(body.data(), body.size()) != hash)
    refuse("of ", bytes.size(), " bytes does not have the hash at its end: it is damaged or cut off");
  if (preamble.header_bytes > body.size() - sizeof preamble) refuse("ends before its header does: it is damaged");
  const std::string_view header = body.substr(sizeof preamble, preamble.header_bytes);
  return {parse_json(header, Where{"the saved state"}, Fault::kStorage), body.substr(sizeof preamble + header.size())};
}

}  // namespace

ModelState ModelState::fork() const {
  const auto fork_of = [](const std::unique_ptr<LayerState>& layer) { return layer ? layer->fork() : nullptr; };
  std::vector<BlockState> blocks;
  for (const BlockState& block : blocks_) blocks.push_back({fork_of(block.mixer), fork_of(block.feed_forward)});
  ModelState copy(std::move(blocks), shard_, sequences_, capacity_, *space_);
  copy.length_ = length_;
  return copy;
}

std::vector<LayerState*> ModelState::layers() const {
  std::vector<LayerState*> found;
  for (const BlockState& block : blocks_)
    for (LayerState* layer : {block.mixer.get(), block.feed_forward.get()})
      if (layer != nullptr) found.push_back(layer);
  return found;
}

void ModelState::rewind(int length) {
  require(0 <= length && length <= length_, "ModelState::rewind: the state has not seen that many tokens");
  for (LayerState* layer : layers()) layer->rewind(length);
  length_ = length;
}

std::vector<TensorView> ModelState::contents(int length, std::span<const TensorView> also) const {
  std::vector<TensorView> matrices;
  for (LayerState* layer : layers()) {
    const std::vector<TensorView> own = layer->contents(length);
    matrices.insert(matrices.end(), own.begin(), own.end());
  }
  matrices.insert(matrices.end(), also.begin(), also.end());
  for (const TensorView& matrix : matrices)
    require(matrix.stride == matrix.cols, "ModelState: the contents of a state must be contiguous");
  return matrices;
}

std::string ModelState::save(std::span<const TensorView> also) const {
  const std::vector<TensorView> matrices = contents(length_, also);
  Json shapes = Json::array();
  for (const TensorView& matrix : matrices) shapes.push_back({matrix.rows, matrix.cols, name(matrix.dtype)});
  const std::string header = to_line({{"architecture", to_json(shard_.spec)},
                                      {"tensor_rank", shard_.tensor_rank},
                                      {"tensor_ranks", shard_.tensor_ranks},
                                      {"sequences", sequences_},
                                      {"length", length_},
                                      {"matrices", shapes}});
  Preamble preamble{{}, kVersion, static_cast<std::uint32_t>(header.size())};
  kMagic.copy(preamble.magic, sizeof preamble.magic);
  std::string bytes(reinterpret_cast<const char*>(&preamble), sizeof preamble);
  bytes += header;
  for (const TensorView& matrix : matrices) {
    const std::size_t first = bytes.size(), size = bytes_of(matrix);
    bytes.resize(first + size);
    if (size != 0) space_->read(bytes.data() + first, matrix.data, size);
  }
  return bytes + xxh3_hex(bytes.data(), bytes.size());
}

void ModelState::restore(std::string_view bytes, std::span<const TensorView> also) {
  const Sections saved = sections_of(bytes);
  int length = 0;
  std::vector<TensorView> matrices;
  try {
    const Json& header = saved.header;
    const ModelSpec spec = spec_from_json(header.at("architecture"), "the saved state");
    if (const std::string found = difference(shard_.spec, spec); !found.empty())
      refuse("belongs to another model: ", found);
    const auto number = [&](const char* key) { return count_number<int>(header.at(key)); };
    if (number("tensor_rank") != shard_.tensor_rank || number("tensor_ranks") != shard_.tensor_ranks)
      refuse("is of tensor rank ", number("tensor_rank"), " of ", number("tensor_ranks"), ", expected rank ",
             shard_.tensor_rank, " of ", shard_.tensor_ranks);
    if (number("sequences") != sequences_) refuse("has ", number("sequences"), " sequences, expected ", sequences_);
    length = number("length");
    if (length > capacity_) refuse("has seen ", length, " tokens, but there is room for ", capacity_, " here");
    matrices = contents(length, also);
    const Json& shapes = header.at("matrices");
    if (shapes.size() != matrices.size()) refuse("has ", shapes.size(), " matrices, expected ", matrices.size());
    for (std::size_t i = 0; i < matrices.size(); ++i) {
      const Json& there = shapes.at(i);
      const TensorView& here = matrices[i];
      const std::string found =
                            shape_text(there.at(0).get<int>(), there.at(1).get<int>(), there.at(2).get<std::string>()),
                        expected = shape_text(here.rows, here.cols, name(here.dtype));
      if (found != expected) refuse("has ", found, " in matrix ", i, ", expected ", expected);
    }
  } catch (const nlohmann::json::exception&) {
    refuse("has a header that lacks a key or has one of another type: another program wrote it");
  }
  std::size_t size = 0;
  for (const TensorView& matrix : matrices) size += bytes_of(matrix);
  if (saved.matrices.size() != size)
    refuse("has ", saved.matrices.size(), " bytes of matrices, expected ", size, " from its header");
  const char* from = saved.matrices.data();
  for (const TensorView& matrix : matrices) {
    if (bytes_of(matrix) != 0) space_->write(matrix.data, from, bytes_of(matrix));
    from += bytes_of(matrix);
  }
  length_ = length;
}

}  // namespace slipway
