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
[[noreturn]] void throw_mismatch(const Parts&... parts) {
  throw Error(Fault::kStorage, join("the saved state ", parts...));
}

/// A part of a saved state: its header, and the bytes of its matrices.
struct Sections {
  Json header;
  std::string_view matrices;
};

/// Parses a saved state and checks everything that does not depend on the model.
Sections parse_sections(std::string_view bytes) {
  Preamble preamble;
  if (bytes.size() < sizeof preamble + kHashDigits || !bytes.starts_with(kMagic))
    throw_mismatch("does not begin with ", kMagic, ", or ends before its header: it is something else, or cut off");
  std::memcpy(&preamble, bytes.data(), sizeof preamble);
  if (preamble.version != kVersion)
    throw_mismatch("has format version ", preamble.version, ", expected ", kVersion,
                   ": restore it with the Slipway that saved it");
  const std::string_view body = bytes.substr(0, bytes.size() - kHashDigits), hash = bytes.substr(body.size());
  if (xxh3_hex(body.data(), body.size()) != hash)
    throw_mismatch("of ", bytes.size(), " bytes does not have the hash at its end: it is damaged or cut off");
  if (preamble.header_bytes > body.size() - sizeof preamble)
    throw_mismatch("ends before its header does: it is damaged");
  const std::string_view header = body.substr(sizeof preamble, preamble.header_bytes);
  return {parse_json(header, FileLocation{"the saved state"}, Fault::kStorage),
          body.substr(sizeof preamble + header.size())};
}

}  // namespace

InferenceState InferenceState::fork() const {
  const auto fork_layer = [](const std::unique_ptr<LayerState>& layer) { return layer ? layer->fork() : nullptr; };
  std::vector<BlockState> blocks;
  for (const BlockState& block : blocks_) blocks.push_back({fork_layer(block.mixer), fork_layer(block.feed_forward)});
  InferenceState copy(std::move(blocks), shard_, sequences_, capacity_, *space_);
  copy.length_ = length_;
  return copy;
}

std::vector<LayerState*> InferenceState::layers() const {
  std::vector<LayerState*> layer_states;
  for (const BlockState& block : blocks_)
    for (LayerState* layer : {block.mixer.get(), block.feed_forward.get()})
      if (layer != nullptr) layer_states.push_back(layer);
  return layer_states;
}

void InferenceState::rewind(int length) {
  require(0 <= length && length <= length_, "InferenceState::rewind: the state has not seen that many tokens");
  for (LayerState* layer : layers()) layer->rewind(length);
  length_ = length;
}

std::vector<TensorView> InferenceState::contents(int length, std::span<const TensorView> extra) const {
  std::vector<TensorView> matrices;
  for (LayerState* layer : layers()) {
    const std::vector<TensorView> layer_contents = layer->contents(length);
    matrices.insert(matrices.end(), layer_contents.begin(), layer_contents.end());
  }
  matrices.insert(matrices.end(), extra.begin(), extra.end());
  for (const TensorView& matrix : matrices)
    require(matrix.stride == matrix.cols, "InferenceState: the contents of a state must be contiguous");
  return matrices;
}

std::string InferenceState::save(std::span<const TensorView> extra) const {
  const std::vector<TensorView> matrices = contents(length_, extra);
  Json shapes = Json::array();
  for (const TensorView& matrix : matrices) shapes.push_back({matrix.rows, matrix.cols, name(matrix.dtype)});
  const std::string header = to_line({{"architecture", to_json(shard_.spec)},
                                      {"tensor_rank", shard_.tensor_rank},
                                      {"tensor_ranks", shard_.tensor_parallel_size},
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

void InferenceState::restore(std::string_view bytes, std::span<const TensorView> extra) {
  const Sections saved = parse_sections(bytes);
  int length = 0;
  std::vector<TensorView> matrices;
  try {
    const Json& header = saved.header;
    const ModelSpec spec = spec_from_json(header.at("architecture"), "the saved state");
    if (const std::string mismatch = describe_difference(shard_.spec, spec); !mismatch.empty())
      throw_mismatch("belongs to another model: ", mismatch);
    const auto header_int = [&](const char* key) { return checked_count<int>(header.at(key)); };
    if (header_int("tensor_rank") != shard_.tensor_rank || header_int("tensor_ranks") != shard_.tensor_parallel_size)
      throw_mismatch("is of tensor rank ", header_int("tensor_rank"), " of ", header_int("tensor_ranks"),
                     ", expected rank ", shard_.tensor_rank, " of ", shard_.tensor_parallel_size);
    if (header_int("sequences") != sequences_)
      throw_mismatch("has ", header_int("sequences"), " sequences, expected ", sequences_);
    length = header_int("length");
    if (length > capacity_) throw_mismatch("has seen ", length, " tokens, but there is room for ", capacity_, " here");
    matrices = contents(length, extra);
    const Json& shapes = header.at("matrices");
    if (shapes.size() != matrices.size())
      throw_mismatch("has ", shapes.size(), " matrices, expected ", matrices.size());
    for (std::size_t i = 0; i < matrices.size(); ++i) {
      const Json& saved_shape = shapes.at(i);
      const TensorView& matrix = matrices[i];
      const std::string actual = shape_text(saved_shape.at(0).get<int>(), saved_shape.at(1).get<int>(),
                                            saved_shape.at(2).get<std::string>()),
                        expected = shape_text(matrix.rows, matrix.cols, name(matrix.dtype));
      if (actual != expected) throw_mismatch("has ", actual, " in matrix ", i, ", expected ", expected);
    }
  } catch (const nlohmann::json::exception&) {
    throw_mismatch("has a header that lacks a key or has one of another type: another program wrote it");
  }
  std::size_t size = 0;
  for (const TensorView& matrix : matrices) size += bytes_of(matrix);
  if (saved.matrices.size() != size)
    throw_mismatch("has ", saved.matrices.size(), " bytes of matrices, expected ", size, " from its header");
  const char* from = saved.matrices.data();
  for (const TensorView& matrix : matrices) {
    if (bytes_of(matrix) != 0) space_->write(matrix.data, from, bytes_of(matrix));
    from += bytes_of(matrix);
  }
  length_ = length;
}

}  // namespace slipway
