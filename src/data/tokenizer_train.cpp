#include <algorithm>
#include <thread>

#include "src/core/error.hpp"
#include "src/core/log.hpp"
#include "src/data/bpe_trainer.hpp"
#include "src/data/tokenizer.hpp"
#include "src/data/tokenizer_json.hpp"
#include "src/data/unicode.hpp"

namespace slipway {
namespace {

using Parts = Tokenizer::Parts;
constexpr int kNumBytes = 256;
constexpr std::int64_t kMaxIds = 1 << 24;  // what tokenizer.json is read up to

std::vector<std::string> initial_special_tokens(PreTokenizer pre) {
  switch (pre) {
    case PreTokenizer::kGpt2: return {"<|endoftext|>"};
    case PreTokenizer::kLlamaBpe: return {"<|begin_of_text|>", "<|end_of_text|>"};
    case PreTokenizer::kQwen2:
    case PreTokenizer::kSmollm: return {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    case PreTokenizer::kChar: return char_control_tokens();
  }
  throw Error(Fault::kBug, "special_tokens: no such pre-tokenizer");
}

/// The characters seen, most frequent first while there is room, then in order of code points.
void add_characters(Parts& parts, std::vector<CountedPreToken> characters, std::size_t max_tokens) {
  std::erase_if(characters,
                [](const CountedPreToken& pre_token) { return !is_utf8(pre_token.bytes); });  // such bytes are unknown
  std::sort(characters.begin(), characters.end(), [](const CountedPreToken& a, const CountedPreToken& b) {
    return a.count != b.count ? a.count > b.count : a.bytes < b.bytes;
  });
  if (characters.size() > max_tokens) {
    std::int64_t dropped = 0;
    for (std::size_t i = max_tokens; i < characters.size(); ++i) dropped += characters[i].count;
    log::warn(join("the texts have ", characters.size(),
                   " different characters, but tokenizer.vocabulary leaves room for ", max_tokens, ": the ",
                   characters.size() - max_tokens, " rarest (", dropped, " occurrences) become the unknown token"));
    characters.resize(max_tokens);
  }
  std::sort(characters.begin(), characters.end(),
            [](const CountedPreToken& a, const CountedPreToken& b) { return a.bytes < b.bytes; });
  for (const CountedPreToken& pre_token : characters) parts.tokens.emplace_back(pre_token.bytes);
}

void add_merges(Parts& parts, const TokenizerConfig& config, std::span<const CountedPreToken> pre_tokens, int tokens) {
  for (int rank = 0; rank < kNumBytes; ++rank) {
    const char byte = static_cast<char>(alphabet_byte(rank));
    parts.tokens.push_back(bytes_to_unicode({&byte, 1}));
  }
  for (const Merge& merge : learn_merges({.tokens = tokens, .min_frequency = config.min_frequency}, pre_tokens)) {
    const std::string left = parts.tokens[static_cast<std::size_t>(merge.left)],
                      right = parts.tokens[static_cast<std::size_t>(merge.right)];
    parts.merges.push_back(left + " " + right);
    if (merge.result == static_cast<int>(parts.tokens.size())) parts.tokens.push_back(left + right);
  }
}

std::vector<std::string> normalize(std::span<const std::string_view> texts, int threads) {
  std::vector<std::string> normalized(texts.size());
  std::vector<std::jthread> workers;
  const auto stride = static_cast<std::size_t>(std::max(1, threads));
  for (std::size_t first = 0; first < stride; ++first)
    workers.emplace_back([&, first] {
      for (std::size_t i = first; i < texts.size(); i += stride) normalized[i] = to_nfc(texts[i]);
    });
  workers.clear();  // joins
  return normalized;
}

}  // namespace

Tokenizer train_tokenizer(const TokenizerConfig& config, std::span<const std::string_view> texts, int threads) {
  Parts parts{.pre = pre_tokenizer_of(config.pre), .nfc = config.nfc};
  const bool is_char = parts.pre == PreTokenizer::kChar;
  const std::vector<std::string> special_tokens = initial_special_tokens(parts.pre);
  const std::int64_t min_vocabulary = static_cast<std::int64_t>(special_tokens.size()) + (is_char ? 1 : kNumBytes);
  if (config.vocabulary < min_vocabulary || config.vocabulary > kMaxIds)
    throw Error(Fault::kConfig, join("tokenizer.vocabulary is ", config.vocabulary, ", but with tokenizer.pre ",
                                     config.pre, " it must be at least ", min_vocabulary, " (",
                                     min_vocabulary - static_cast<std::int64_t>(special_tokens.size()),
                                     is_char ? " character and " : " bytes and ", special_tokens.size(),
                                     " special tokens) and at most ", kMaxIds));
  if (config.min_frequency < 1)
    throw Error(Fault::kConfig,
                join("tokenizer.min_frequency is ", config.min_frequency, ", but it must be at least 1"));

  std::vector<std::string> normalized;
  std::vector<std::string_view> views(texts.begin(), texts.end());
  if (config.nfc) {
    normalized = normalize(texts, threads);
    std::copy(normalized.begin(), normalized.end(), views.begin());
  }
  const std::vector<CountedPreToken> pre_tokens = count_pre_tokens(parts.pre, views, threads);

  const int max_tokens = static_cast<int>(config.vocabulary) - static_cast<int>(special_tokens.size());
  if (is_char) {
    parts.tokens = special_tokens;
    add_characters(parts, pre_tokens, static_cast<std::size_t>(max_tokens));
    if (parts.tokens.size() == special_tokens.size())
      throw Error(Fault::kData, "the texts hold no character; give texts to learn from");
  } else {
    add_merges(parts, config, pre_tokens, max_tokens);
    if (static_cast<int>(parts.tokens.size()) < max_tokens)
      throw Error(Fault::kData, join("the texts gave ", parts.merges.size(), " merges of pairs seen at least ",
                                     config.min_frequency, " times, which makes a vocabulary of ",
                                     parts.tokens.size() + special_tokens.size(), ", but tokenizer.vocabulary is ",
                                     config.vocabulary, "; lower tokenizer.vocabulary or give more text"));
    parts.tokens.insert(parts.tokens.end(), special_tokens.begin(), special_tokens.end());
  }

  const auto id_of = [&](std::string_view token) {
    return static_cast<int>(std::find(parts.tokens.begin(), parts.tokens.end(), token) - parts.tokens.begin());
  };
  for (const std::string& special : special_tokens) parts.special_tokens.push_back(id_of(special));
  switch (parts.pre) {
    case PreTokenizer::kGpt2:
    case PreTokenizer::kQwen2:
    case PreTokenizer::kSmollm: parts.bos = parts.eos = id_of("<|endoftext|>"); break;
    case PreTokenizer::kLlamaBpe:
      parts.bos = id_of("<|begin_of_text|>"), parts.eos = id_of("<|end_of_text|>"), parts.add_bos = true;
      break;
    case PreTokenizer::kChar: parts.bos = id_of("<|bos|>"), parts.eos = id_of("<|eos|>"); break;
  }
  return Tokenizer::from_parts(std::move(parts));
}

}  // namespace slipway
