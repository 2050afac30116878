#include "src/data/gguf_tokenizer.hpp"

#include <array>
#include <utility>

#include "src/core/error.hpp"
#include "src/core/log.hpp"

namespace slipway {
namespace {

constexpr std::int32_t kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;  // llama.cpp's token types

// Beside llama.cpp's own keys: what it has no key for, so that a reopened tokenizer is the one that was written.
constexpr const char* kHasBos = "slipway.tokenizer.has_bos";
constexpr const char* kNfc = "slipway.tokenizer.nfc";

/// llama.cpp's names of the same three pre-tokenizers.
constexpr std::array<std::pair<std::string_view, PreTokenizer>, 7> kPreNames = {
    {{"gpt-2", PreTokenizer::kGpt2},
     {"llama-bpe", PreTokenizer::kLlamaBpe},
     {"llama3", PreTokenizer::kLlamaBpe},
     {"llama-v3", PreTokenizer::kLlamaBpe},
     {"qwen2", PreTokenizer::kQwen2},
     {"deepseek-r1-qwen", PreTokenizer::kQwen2},
     {"megrez", PreTokenizer::kQwen2}}};

PreTokenizer pre_of(const GgufMetadata& metadata) {
  const std::string& called = metadata.text("tokenizer.ggml.pre");
  for (const auto& [name, pre] : kPreNames)
    if (name == called) return pre;
  throw Error(Fault::kStorage, join(metadata.called(), ": the pre-tokenizer is '", called,
                                    "', but Slipway has gpt-2, llama-bpe and qwen2"));
}

std::optional<int> id_at(const GgufMetadata& metadata, const char* key, std::size_t tokens) {
  if (!metadata.has(key)) return std::nullopt;
  const std::int64_t id = metadata.integer(key);
  if (id < 0 || static_cast<std::size_t>(id) >= tokens)
    throw Error(Fault::kStorage,
                join(metadata.called(), ": the key ", key, " is ", id, ", but there are ", tokens, " tokens"));
  return static_cast<int>(id);
}

void read_types(const GgufMetadata& metadata, Tokenizer::Parts& parts) {
  if (!metadata.has("tokenizer.ggml.token_type")) return;
  const std::vector<std::int64_t> types = metadata.integers("tokenizer.ggml.token_type");
  if (types.size() < parts.tokens.size())
    throw Error(Fault::kStorage,
                join(metadata.called(), ": ", parts.tokens.size(), " tokens, but only ", types.size(), " token types"));
  int user_defined = 0;
  for (std::size_t id = 0; id < parts.tokens.size(); ++id) {
    if (types[id] == kUserDefined) ++user_defined;
    if (types[id] == kControl || types[id] == kUserDefined || types[id] == kUnused)
      parts.specials.push_back(static_cast<int>(id));
  }
  if (user_defined > 0)
    log::warn(join(metadata.called(), ": ", user_defined,
                   " user-defined tokens are special tokens here: they are found in a text ",
                   "only where special tokens are, while llama.cpp always finds them"));
}

}  // namespace

void add_tokenizer(GgufMetadata& metadata, const Tokenizer::Parts& parts) {
  if (parts.pre == PreTokenizer::kChar)
    throw Error(
        Fault::kConfig,
        "this model has a character tokenizer, which a GGUF cannot hold; export it to a folder (safetensors) instead");
  if (parts.nfc)
    log::warn("the tokenizer normalizes text to NFC and llama.cpp does not: give it text in NFC, or its ids differ");
  if (!parts.eos) log::warn("the tokenizer has no end token: llama.cpp will take token 11 for one and stop there");

  std::vector<std::int32_t> types(parts.tokens.size(), kNormal);
  for (const int id : parts.specials) types.at(static_cast<std::size_t>(id)) = kControl;
  metadata.add("tokenizer.ggml.model", std::string("gpt2"));
  metadata.add("tokenizer.ggml.pre", std::string(name(parts.pre)));
  metadata.add("tokenizer.ggml.tokens", GgufArray(parts.tokens));
  metadata.add("tokenizer.ggml.token_type", GgufArray(std::move(types)));
  metadata.add("tokenizer.ggml.merges", GgufArray(parts.merges));
  // without the key llama.cpp takes token 11: an end token is the better beginning, as in GPT-2
  if (const std::optional<int> bos = parts.bos ? parts.bos : parts.eos)
    metadata.add("tokenizer.ggml.bos_token_id", static_cast<std::uint32_t>(*bos));
  if (parts.eos) metadata.add("tokenizer.ggml.eos_token_id", static_cast<std::uint32_t>(*parts.eos));
  metadata.add("tokenizer.ggml.add_bos_token", parts.add_bos);
  metadata.add("tokenizer.ggml.add_eos_token", false);
  if (!parts.chat_template.empty()) metadata.add("tokenizer.chat_template", parts.chat_template);
  metadata.add(kHasBos, parts.bos.has_value());
  metadata.add(kNfc, parts.nfc);
}

Tokenizer::Parts tokenizer_parts(const GgufMetadata& metadata) {
  if (const std::string& model = metadata.text("tokenizer.ggml.model"); model != "gpt2")
    throw Error(Fault::kStorage, join(metadata.called(), ": the tokenizer is of kind '", model,
                                      "', but Slipway has byte-level BPE ('gpt2') only"));
  Tokenizer::Parts parts;
  parts.pre = pre_of(metadata);
  parts.tokens = metadata.texts("tokenizer.ggml.tokens");
  parts.merges = metadata.texts("tokenizer.ggml.merges");
  if (parts.tokens.empty()) throw Error(Fault::kStorage, join(metadata.called(), ": the tokenizer has no tokens"));
  read_types(metadata, parts);
  if (metadata.boolean(kHasBos, true)) parts.bos = id_at(metadata, "tokenizer.ggml.bos_token_id", parts.tokens.size());
  parts.eos = id_at(metadata, "tokenizer.ggml.eos_token_id", parts.tokens.size());
  parts.add_bos =
      metadata.boolean("tokenizer.ggml.add_bos_token", parts.pre == PreTokenizer::kLlamaBpe);  // llama.cpp's default
  parts.nfc = metadata.boolean(kNfc, false);
  parts.chat_template = metadata.text("tokenizer.chat_template", "");
  return parts;
}

Tokenizer tokenizer_of(const GgufMetadata& metadata) {
  try {
    return Tokenizer::from_parts(tokenizer_parts(metadata));
  } catch (const Error& error) {
    if (error.fault() == Fault::kStorage) throw;
    throw Error(Fault::kStorage, join(metadata.called(), ": ", error.what()));  // a bad model file is no bad text
  }
}

}  // namespace slipway
