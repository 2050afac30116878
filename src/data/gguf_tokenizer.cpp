#include "src/data/gguf_tokenizer.hpp"

#include <array>
#include <utility>

#include "src/core/error.hpp"
#include "src/core/log.hpp"
#include "src/data/unicode.hpp"

namespace slipway {
namespace {

// llama.cpp's token types
constexpr std::int32_t kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5;

// Additional keys for parts that llama.cpp has no key for, so that a reopened tokenizer equals the written one.
constexpr const char* kHasBos = "slipway.tokenizer.has_bos";
constexpr const char* kNfc = "slipway.tokenizer.nfc";
constexpr const char* kNormalized = "slipway.tokenizer.normalized";
constexpr const char* kOtherEnds = "slipway.tokenizer.other_ends";

constexpr const char *kBosKey = "tokenizer.ggml.bos_token_id", *kEosKey = "tokenizer.ggml.eos_token_id",
                     *kEotKey = "tokenizer.ggml.eot_token_id", *kEomKey = "tokenizer.ggml.eom_token_id";

std::string padding_token(std::size_t id) {
  return join("[PAD", id, "]");
}  // the name that llama.cpp's converter gives

/// llama.cpp's names of the same four pre-tokenizers.
constexpr std::array<std::pair<std::string_view, PreTokenizer>, 8> kPreNames = {
    {{"gpt-2", PreTokenizer::kGpt2},
     {"llama-bpe", PreTokenizer::kLlamaBpe},
     {"llama3", PreTokenizer::kLlamaBpe},
     {"llama-v3", PreTokenizer::kLlamaBpe},
     {"qwen2", PreTokenizer::kQwen2},
     {"deepseek-r1-qwen", PreTokenizer::kQwen2},
     {"megrez", PreTokenizer::kQwen2},
     {"smollm", PreTokenizer::kSmollm}}};

PreTokenizer read_pre_tokenizer(const GgufMetadata& metadata) {
  const std::string& source_name = metadata.text("tokenizer.ggml.pre");
  for (const auto& [name, pre] : kPreNames)
    if (name == source_name) return pre;
  throw Error(Fault::kStorage, join(metadata.source_name(), ": the pre-tokenizer is '", source_name,
                                    "', but Slipway has gpt-2, llama-bpe, qwen2 and smollm"));
}

/// Every key that holds the id of a token, whether Slipway uses it or not.
void check_ids(const GgufMetadata& metadata, std::size_t tokens) {
  for (const auto& [key, value] : metadata) {
    const bool is_id = key.ends_with("_token_id"), is_id_list = key.ends_with("_token_ids");
    if (!key.starts_with("tokenizer.") || !(is_id || is_id_list)) continue;
    for (const std::int64_t id : is_id ? std::vector{metadata.integer(key)} : metadata.integers(key))
      if (id < 0 || static_cast<std::size_t>(id) >= tokens)
        throw Error(Fault::kStorage,
                    join(metadata.source_name(), ": the key ", key, " is ", id, ", but there are ", tokens, " tokens"));
  }
}

std::optional<int> read_id(const GgufMetadata& metadata, const char* key) {
  if (!metadata.has(key)) return std::nullopt;
  return static_cast<int>(metadata.integer(key));  // in range: check_ids, and again without the padding: Tokenizer
}

/// The ids of one of Slipway's list keys; none where there is no such key.
std::vector<int> read_ids(const GgufMetadata& metadata, const char* key, std::size_t tokens) {
  std::vector<int> ids;
  if (!metadata.has(key)) return ids;
  for (const std::int64_t id : metadata.integers(key)) {
    if (id < 0 || id >= static_cast<std::int64_t>(tokens))
      throw Error(Fault::kStorage, join(metadata.source_name(), ": the key ", key, " holds ", id, ", but there are ",
                                        tokens, " tokens"));
    ids.push_back(static_cast<int>(id));
  }
  return ids;
}

void read_types(const GgufMetadata& metadata, Tokenizer::Parts& parts) {
  if (!metadata.has("tokenizer.ggml.token_type")) return;
  const std::vector<std::int64_t> types = metadata.integers("tokenizer.ggml.token_type");
  if (types.size() < parts.tokens.size())
    throw Error(Fault::kStorage, join(metadata.source_name(), ": ", parts.tokens.size(), " tokens, but only ",
                                      types.size(), " token types"));
  while (!parts.tokens.empty() && types[parts.tokens.size() - 1] == kUnused &&
         parts.tokens.back() == padding_token(parts.tokens.size() - 1))
    parts.tokens.pop_back();
  for (std::size_t at = 0; at < parts.tokens.size(); ++at) {
    const int id = static_cast<int>(at);
    switch (types[at]) {
      case kNormal: break;
      case kUnknown:
      case kControl: parts.special_tokens.push_back(id); break;
      case kUserDefined: parts.user_defined.push_back(id); break;
      case kUnused: parts.unused.push_back(id); break;
      default:
        throw Error(Fault::kStorage,
                    join(metadata.source_name(), ": token ", id, " is of type ", types[at],
                         ", but a byte-level BPE has normal (1), unknown (2), control (3), user-defined (4) and unused "
                         "(5) tokens only"));
    }
  }
}

/// Warns of tokenizer keys that change ids in llama.cpp and not here.
void warn_about_ignored_keys(const GgufMetadata& metadata) {
  for (const char* key : {"tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_sep_token"})
    if (metadata.boolean(key, false))
      log::warn(join(metadata.source_name(), ": ", key,
                     " is set, so llama.cpp puts a token behind every text; Slipway ", "does not"));
}

}  // namespace

void add_tokenizer(GgufMetadata& metadata, const Tokenizer::Parts& parts, int rows) {
  if (parts.pre == PreTokenizer::kChar)
    throw Error(
        Fault::kConfig,
        "this model has a character tokenizer, which a GGUF cannot hold; export it to a folder (safetensors) instead");
  if (parts.nfc)
    log::warn("the tokenizer normalizes text to NFC and llama.cpp does not: give it text in NFC, or its ids differ");
  if (!parts.eos) log::warn("the tokenizer has no end token: llama.cpp will take token 11 for one and stop there");

  std::vector<std::string> tokens = parts.tokens;
  while (std::ssize(tokens) < rows) tokens.push_back(padding_token(tokens.size()));
  std::vector<std::int32_t> types(parts.tokens.size(), kNormal);
  for (const auto& [ids, type] :
       {std::pair{&parts.special_tokens, kControl}, {&parts.user_defined, kUserDefined}, {&parts.unused, kUnused}})
    for (const int id : *ids) types.at(static_cast<std::size_t>(id)) = type;
  types.resize(tokens.size(), kUnused);
  metadata.add("tokenizer.ggml.model", std::string("gpt2"));
  metadata.add("tokenizer.ggml.pre", std::string(name(parts.pre)));
  metadata.add("tokenizer.ggml.tokens", GgufArray(std::move(tokens)));
  metadata.add("tokenizer.ggml.token_type", GgufArray(std::move(types)));
  metadata.add("tokenizer.ggml.merges", GgufArray(parts.merges));
  // without the key llama.cpp takes token 11: an end token is the better beginning, as in GPT-2
  if (const std::optional<int> bos = parts.bos ? parts.bos : parts.eos)
    metadata.add(kBosKey, static_cast<std::uint32_t>(*bos));
  for (const auto& [key, id] : {std::pair{kEosKey, parts.eos}, {kEotKey, parts.eot}, {kEomKey, parts.eom}})
    if (id) metadata.add(key, static_cast<std::uint32_t>(*id));
  metadata.add("tokenizer.ggml.add_bos_token", parts.add_bos);
  metadata.add("tokenizer.ggml.add_eos_token", false);
  if (!parts.chat_template.empty()) metadata.add("tokenizer.chat_template", parts.chat_template);
  metadata.add(kHasBos, parts.bos.has_value());
  metadata.add(kNfc, parts.nfc);
  if (!parts.normalized.empty()) metadata.add(kNormalized, GgufArray(parts.normalized));
  if (!parts.other_ends.empty()) metadata.add(kOtherEnds, GgufArray(parts.other_ends));
}

Tokenizer::Parts tokenizer_parts(const GgufMetadata& metadata) {
  if (const std::string& model = metadata.text("tokenizer.ggml.model"); model != "gpt2")
    throw Error(Fault::kStorage, join(metadata.source_name(), ": the tokenizer is of kind '", model,
                                      "', but Slipway has byte-level BPE ('gpt2') only"));
  Tokenizer::Parts parts;
  parts.pre = read_pre_tokenizer(metadata);
  parts.tokens = metadata.texts("tokenizer.ggml.tokens");
  parts.merges = metadata.texts("tokenizer.ggml.merges");
  if (parts.tokens.empty()) throw Error(Fault::kStorage, join(metadata.source_name(), ": the tokenizer has no tokens"));
  check_ids(metadata, parts.tokens.size());
  read_types(metadata, parts);
  if (metadata.boolean(kHasBos, true)) parts.bos = read_id(metadata, kBosKey);
  parts.eos = read_id(metadata, kEosKey);
  parts.eot = read_id(metadata, kEotKey);
  parts.eom = read_id(metadata, kEomKey);
  parts.add_bos =
      metadata.boolean("tokenizer.ggml.add_bos_token", parts.pre == PreTokenizer::kLlamaBpe);  // llama.cpp's default
  parts.nfc = metadata.boolean(kNfc, false);
  if (parts.nfc) parts.normalized = read_ids(metadata, kNormalized, parts.tokens.size());
  parts.other_ends = read_ids(metadata, kOtherEnds, parts.tokens.size());
  warn_about_ignored_keys(metadata);
  parts.chat_template = metadata.text("tokenizer.chat_template", "");
  if (!is_utf8(parts.chat_template))
    throw Error(Fault::kStorage,
                join(metadata.source_name(), ": the key tokenizer.chat_template is not UTF-8; the file is damaged"));
  return parts;
}

Tokenizer tokenizer_of(const GgufMetadata& metadata) {
  try {
    return Tokenizer::from_parts(tokenizer_parts(metadata));
  } catch (const Error& error) {
    if (error.fault() == Fault::kStorage) throw;
    throw Error(Fault::kStorage, join(metadata.source_name(), ": ", error.what()));  // a bad model file is no bad text
  }
}

}  // namespace slipway
