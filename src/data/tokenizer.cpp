#include "src/data/tokenizer.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <deque>
#include <unordered_map>

#include "src/core/error.hpp"
#include "src/core/file.hpp"
#include "src/core/hash.hpp"
#include "src/core/log.hpp"
#include "src/data/bpe.hpp"
#include "src/data/bpe_cache.hpp"
#include "src/data/pre_tokenizer.hpp"
#include "src/data/tokenizer_json.hpp"
#include "src/data/unicode.hpp"

namespace slipway {
namespace {

struct TextHash : std::hash<std::string_view> {
  using is_transparent = void;
};
template <class Value>
using TextMap = std::unordered_map<std::string, Value, TextHash, std::equal_to<>>;

/// A token that is searched for in text before pre-tokenization.
struct AddedToken {
  std::string text;
  int id;
  bool control;     // only where special text is asked for
  bool normalized;  // in the text after normalization, not before
};

enum class TokenKind : std::uint8_t { kOrdinary, kSpecial, kUserDefined, kUnused };

/// A fragment of text, or a token that was found in it.
struct Fragment {
  std::string_view text;
  int id = -1;
};

void split_by_token(std::vector<Fragment>& fragments, const AddedToken& token) {
  std::vector<Fragment> result;
  bool found = false;
  for (const Fragment& fragment : fragments) {
    std::string_view remaining = fragment.text;
    while (fragment.id < 0) {
      const std::size_t at = remaining.find(token.text);
      if (at == std::string_view::npos) break;
      found = true;
      if (at > 0) result.push_back({remaining.substr(0, at)});
      result.push_back({remaining.substr(at, token.text.size()), token.id});
      remaining.remove_prefix(at + token.text.size());
    }
    if (!remaining.empty() || fragment.id >= 0) result.push_back({remaining, fragment.id});
  }
  if (found) fragments = std::move(result);
}

/// Ids as they are found, in memory that is not zeroed first.
class IdBuffer {
 public:
  explicit IdBuffer(std::size_t expected) { grow(expected); }

  /// Space for `count` more ids; add() sets how many were written.
  int* tail(std::size_t count) {
    if (capacity_ - size_ < count) grow(count);
    return ids_.get() + size_;
  }
  void add(std::size_t count) { size_ += count; }
  std::vector<int> copy() const { return {ids_.get(), ids_.get() + size_}; }

 private:
  void grow(std::size_t count) {
    capacity_ = std::max(2 * capacity_, size_ + count);
    auto larger = std::make_unique_for_overwrite<int[]>(capacity_);
    std::copy_n(ids_.get(), size_, larger.get());
    ids_ = std::move(larger);
  }

  std::unique_ptr<int[]> ids_;
  std::size_t size_ = 0, capacity_ = 0;
};

/// Bytes that may lack a token in a smollm vocabulary (SmolLM2's lacks 21): controls, and bytes that do not occur in
/// valid UTF-8 or only in unassigned planes. llama.cpp and `tokenizers` omit them from the ids.
bool may_be_missing(PreTokenizer pre, std::size_t byte) {
  const bool control = (byte < ' ' && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7f;
  return pre == PreTokenizer::kSmollm && (control || byte == 0xc0 || byte == 0xc1 || byte >= 0xf1);
}

std::uint32_t next_cache_owner() {
  static std::atomic<std::uint32_t> last = 0;
  return ++last;
}

}  // namespace

std::string_view name(PreTokenizer pre) {
  constexpr std::array<std::string_view, 5> kNames = {"gpt-2", "llama-bpe", "qwen2", "smollm", "char"};
  return kNames.at(static_cast<std::size_t>(pre));
}

PreTokenizer pre_tokenizer_of(const std::string& text) {
  for (const PreTokenizer pre :
       {PreTokenizer::kGpt2, PreTokenizer::kLlamaBpe, PreTokenizer::kQwen2, PreTokenizer::kSmollm, PreTokenizer::kChar})
    if (text == name(pre)) return pre;
  throw Error(Fault::kConfig,
              join("tokenizer.pre is '", text, "', but it must be gpt-2, llama-bpe, qwen2, smollm or char"));
}

struct Tokenizer::State {
  Parts parts;
  std::string source_name;  // how errors name it
  TextMap<int> id_of_text;
  std::vector<std::string> bytes;        // by id: what it decodes to
  std::vector<TokenKind> kinds;          // by id
  std::vector<AddedToken> added_tokens;  // longest first
  TextMap<int> unmerged_tokens;          // llama-bpe: pre-tokens that are tokens; char: the characters
  BpeMerges merges;
  std::uint32_t owner = next_cache_owner();  // in the threads' caches

  State(Parts tokenizer_parts, const std::string& file_name)
      : parts(std::move(tokenizer_parts)), source_name(file_name) {
    check_kinds();
    index_tokens();
    index_atomic_tokens();
    index_merges();
  }

  template <class... Args>
  [[noreturn]] void refuse(const Args&... words) const {
    throw Error(Fault::kData, join(source_name, ": ", words...));
  }

  int count() const { return static_cast<int>(parts.tokens.size()); }
  TokenKind kind_of(int id) const {
    return id >= 0 && id < count() ? kinds[static_cast<std::size_t>(id)] : TokenKind::kUnused;
  }
  bool is_char() const { return parts.pre == PreTokenizer::kChar; }

  /// Each list of ids in ascending order, without repetition, and none in two lists.
  void check_kinds() {
    for (std::vector<int>* ids : {&parts.special_tokens, &parts.user_defined, &parts.normalized, &parts.unused}) {
      std::sort(ids->begin(), ids->end());
      ids->erase(std::unique(ids->begin(), ids->end()), ids->end());
      for (const int id : *ids)
        if (id < 0 || id >= count()) refuse("an added token has id ", id, ", but there are ", count(), " tokens");
    }
    kinds.resize(parts.tokens.size());
    for (const auto& [ids, kind] : {std::pair{&parts.special_tokens, TokenKind::kSpecial},
                                    {&parts.user_defined, TokenKind::kUserDefined},
                                    {&parts.unused, TokenKind::kUnused}})
      for (const int id : *ids) {
        TokenKind& kind_entry = kinds[static_cast<std::size_t>(id)];
        if (kind_entry != TokenKind::kOrdinary)
          refuse("token ", id, " is listed as special, as user-defined or as unused more than once");
        kind_entry = kind;
      }
  }

  void index_tokens() {
    id_of_text.reserve(parts.tokens.size());
    for (int id = 0; id < count(); ++id) {
      const std::string& token = parts.tokens[static_cast<std::size_t>(id)];
      if (token.empty()) refuse("token ", id, " is empty; every id needs a text");
      if (!is_utf8(token)) refuse("token ", id, " is not UTF-8; tokens are written in the byte alphabet");
      const auto [existing, added] = id_of_text.emplace(token, id);
      if (!added)
        refuse("the token '", token, "' has ids ", existing->second, " and ", id, "; every token needs one id");
    }
    const auto in_range = [&](int id, std::string_view what) {
      if (id < 0 || id >= count()) refuse("the ", what, " has id ", id, ", but there are ", count(), " tokens");
    };
    if (parts.bos) in_range(*parts.bos, "begin-of-text token");
    if (parts.eos) in_range(*parts.eos, "end-of-text token");
    if (parts.eot) in_range(*parts.eot, "end-of-turn token");
    if (parts.eom) in_range(*parts.eom, "end-of-message token");
    for (const int id : parts.other_ends) in_range(id, "token that ends generation");
    if (parts.add_bos && !parts.bos) refuse("it asks to begin texts with a token but names none (bos)");
  }

  void index_atomic_tokens() {
    for (const std::vector<int>* ids : {&parts.special_tokens, &parts.user_defined})
      for (const int id : *ids) {
        const std::string& text = parts.tokens[static_cast<std::size_t>(id)];
        const bool normalized = std::binary_search(parts.normalized.begin(), parts.normalized.end(), id);
        added_tokens.push_back({normalized ? to_nfc(text) : text, id, ids == &parts.special_tokens, normalized});
      }
    std::sort(added_tokens.begin(), added_tokens.end(), [](const AddedToken& a, const AddedToken& b) {
      return a.text.size() != b.text.size() ? a.text.size() > b.text.size() : a.id < b.id;  // as llama.cpp
    });

    bytes = parts.tokens;
    const bool keeps_unmerged = is_char() || parts.pre == PreTokenizer::kLlamaBpe;
    for (std::size_t id = 0; id < bytes.size(); ++id) {
      if (kinds[id] != TokenKind::kOrdinary) continue;
      if (!is_char()) {
        std::optional<std::string> decoded = unicode_to_bytes(bytes[id]);
        if (!decoded)
          refuse("token ", id, " ('", bytes[id],
                 "') is not in GPT-2's byte alphabet; only byte-level BPE is supported");
        bytes[id] = std::move(*decoded);
      }
      if (keeps_unmerged) unmerged_tokens.emplace(bytes[id], static_cast<int>(id));
    }
  }

  void index_merges() {
    if (is_char()) {
      if (count() <= kCharUnknown) refuse("a character tokenizer needs its 32 control tokens");
      return;
    }
    std::array<int, 256> id_of_byte{};
    int missing_bytes = 0;
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      const auto found = id_of_text.find(bytes_to_unicode({&c, 1}));
      if (found == id_of_text.end() && !may_be_missing(parts.pre, byte))
        refuse("there is no token for byte ", byte, "; byte-level BPE needs all 256, or text would be lost");
      missing_bytes += found == id_of_text.end();
      id_of_byte[byte] = found == id_of_text.end() ? BpeMerges::kNoId : found->second;
    }
    if (static std::atomic_flag warned;
        missing_bytes > 0 && !warned.test_and_set())  // a model's files are opened more than once
      log::warn(join(source_name, ": ", missing_bytes,
                     " of the 256 bytes, controls and such as valid text hardly has, are without ",
                     "a token: a text's ids leave them out, as llama.cpp's do"));
    const auto id_of = [&](std::string_view token, const std::string& merge) {
      const auto found = id_of_text.find(token);
      if (found == id_of_text.end())
        refuse("the merge '", merge, "' needs the token '", token, "', which is not in the vocabulary");
      return found->second;
    };
    std::vector<Merge> merge_list;
    merge_list.reserve(parts.merges.size());
    for (const std::string& merge : parts.merges) {
      const std::size_t space = merge.find(' ', 1);
      if (space == std::string::npos || space + 1 == merge.size())
        refuse("the merge '", merge, "' is not two tokens with a space between");
      const std::string_view left = std::string_view(merge).substr(0, space),
                             right = std::string_view(merge).substr(space + 1);
      merge_list.push_back({id_of(left, merge), id_of(right, merge), id_of(std::string(left).append(right), merge)});
    }
    merges = BpeMerges(id_of_byte, std::move(merge_list));
  }

  /// Writes the ids of a pre-token to `ids`, which has room for one a byte. Returns how many these are.
  std::size_t encode_pre_token(std::string_view pre_token, int* ids) const {
    if (!unmerged_tokens.empty())
      if (const auto found = unmerged_tokens.find(pre_token); found != unmerged_tokens.end())
        return *ids = found->second, 1;
    if (is_char()) return *ids = kCharUnknown, 1;
    return merges.encode(pre_token, ids);
  }

  void encode_fragment(std::string_view text, IdBuffer& ids) const {
    thread_local PreTokenCache cache;
    for_each_pre_token_batch(parts.pre, text, 0, text.size(), [&](std::size_t at, std::span<const std::size_t> ends) {
      std::array<PreTokenCache::Lookup, kPreTokensPerBatch> lookups;
      for (std::size_t i = 0; i < ends.size(); at = ends[i++])
        lookups[i] = cache.look_up({text.data() + at, text.size() - at}, ends[i] - at);
      for (const PreTokenCache::Lookup& lookup : std::span(lookups).first(ends.size())) {
        int* tail = ids.tail(std::max(lookup.pre_token.size(), PreTokenCache::kMaxCachedIds));
        ids.add(cache.encode_cached(owner, lookup, tail, [&](std::string_view pre_token, int* out) {
          return encode_pre_token(pre_token, out);
        }));
      }
    });
  }
};

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
  const std::string source_name = path.string();
  Parts parts = read_tokenizer_json(read_file(path, Fault::kData), source_name);
  const std::filesystem::path config = path.parent_path() / "tokenizer_config.json",
                              chat = path.parent_path() / "chat_template.jinja";
  if (std::filesystem::exists(config)) read_tokenizer_config(read_file(config, Fault::kData), config.string(), parts);
  if (std::filesystem::exists(chat)) read_chat_template(read_file(chat, Fault::kData), chat.string(), parts);
  guess_bos_eos(parts);
  Tokenizer tokenizer;
  tokenizer.state_ = std::make_shared<const State>(std::move(parts), source_name);
  return tokenizer;
}

Tokenizer Tokenizer::from_json(const std::string& text, const std::string& source_name) {
  Parts parts = read_tokenizer_json(text, source_name);
  guess_bos_eos(parts);
  Tokenizer tokenizer;
  tokenizer.state_ = std::make_shared<const State>(std::move(parts), source_name);
  return tokenizer;
}

Tokenizer Tokenizer::from_parts(Parts parts) {
  Tokenizer tokenizer;
  tokenizer.state_ = std::make_shared<const State>(std::move(parts), "tokenizer");
  return tokenizer;
}

const Tokenizer::Parts& Tokenizer::parts() const { return state_->parts; }
std::string Tokenizer::to_json() const { return write_tokenizer_json(state_->parts); }
std::string Tokenizer::sha256() const { return sha256_hex(to_json()); }
int Tokenizer::vocabulary_size() const { return state_->count(); }
std::optional<int> Tokenizer::bos() const { return state_->parts.bos; }
std::optional<int> Tokenizer::eos() const { return state_->parts.eos; }
bool Tokenizer::add_bos() const { return state_->parts.add_bos; }
bool Tokenizer::is_special(int id) const { return state_->kind_of(id) == TokenKind::kSpecial; }
bool Tokenizer::may_be_generated(int id) const { return state_->kind_of(id) != TokenKind::kUnused; }

bool Tokenizer::is_end_of_generation(int id) const {
  const Parts& parts = state_->parts;
  return id == parts.eos || id == parts.eot || id == parts.eom ||
         std::ranges::find(parts.other_ends, id) != parts.other_ends.end();
}

std::vector<int> Tokenizer::end_of_generation_ids() const {
  const Parts& parts = state_->parts;
  std::vector<int> ends;
  const auto add = [&](int id) {
    if (std::ranges::find(ends, id) == ends.end()) ends.push_back(id);
  };
  for (const std::optional<int> id : {parts.eos, parts.eot, parts.eom})
    if (id) add(*id);
  for (const int id : parts.other_ends) add(id);
  return ends;
}

std::optional<int> Tokenizer::id_of(std::string_view token) const {
  const auto found = state_->id_of_text.find(token);
  if (found == state_->id_of_text.end()) return std::nullopt;
  return found->second;
}

std::vector<int> Tokenizer::encode(std::string_view text, bool parse_special) const {
  std::vector<Fragment> fragments = {{text}};
  const auto find_tokens = [&](bool normalized) {
    for (const AddedToken& token : state_->added_tokens)
      if (token.normalized == normalized && (parse_special || !token.control)) split_by_token(fragments, token);
  };
  find_tokens(/*normalized=*/false);
  std::deque<std::string> normalized_texts;  // what the fragments then point into
  if (state_->parts.nfc) {
    for (Fragment& fragment : fragments)
      if (fragment.id < 0) fragment.text = normalized_texts.emplace_back(to_nfc(fragment.text));
    find_tokens(/*normalized=*/true);
  }

  IdBuffer ids(text.size() / 3);  // a usual number of bytes a token
  for (const Fragment& fragment : fragments) {
    if (fragment.id >= 0) *ids.tail(1) = fragment.id, ids.add(1);
    else state_->encode_fragment(fragment.text, ids);
  }
  return ids.copy();
}

std::string Tokenizer::decode(std::span<const int> ids) const {
  std::string text;
  for (const int id : ids) {
    if (id < 0 || id >= vocabulary_size())
      throw Error(Fault::kData, join("token id ", id, " is outside the vocabulary of ", vocabulary_size(),
                                     " ids; is this the tokenizer that made the ids?"));
    text += state_->bytes[static_cast<std::size_t>(id)];
  }
  return text;
}

}  // namespace slipway
