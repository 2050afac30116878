// Laws of the tokenizer over seeded random bytes and texts.
#include "src/data/tokenizer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <map>
#include <thread>

#include "src/core/random.hpp"
#include "src/data/bpe_trainer.hpp"
#include "src/data/pre_tokenizer.hpp"
#include "src/data/unicode.hpp"

namespace slipway {
namespace {

constexpr PreTokenizer kByteLevel[] = {PreTokenizer::kGpt2, PreTokenizer::kLlamaBpe, PreTokenizer::kQwen2,
                                       PreTokenizer::kSmollm};

/// Text-like bytes: words of a small alphabet, spaces, newlines, digits, and now and then any byte at all.
std::string random_text(std::uint64_t seed, std::size_t bytes) {
  const Random random(seed, stream_of("tokenizer test"));
  constexpr std::string_view kAlphabet = "eeeetaaoinshrdlu    \n\n'',.;123\r\tsTLLm\xc3\xa9\xc3\xa9";
  std::string text;
  for (std::size_t i = 0; i < bytes; ++i)
    text += random.uniform_int(20, 2 * i) == 0 ? static_cast<char>(random.uniform_int(256, 2 * i + 1))
                                               : kAlphabet[random.uniform_int(kAlphabet.size(), 2 * i + 1)];
  return text;
}

std::vector<std::string> random_texts(std::uint64_t seed, std::size_t count, std::size_t bytes) {
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < count; ++i) texts.push_back(random_text(seed + i, bytes + 37 * i));
  return texts;
}

Tokenizer train(PreTokenizer pre, std::span<const std::string> texts, int threads = 1, std::int64_t vocabulary = 700) {
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  return train_tokenizer({.vocabulary = vocabulary, .pre = std::string(name(pre))}, views, threads);
}

TEST(TokenizerProperty, DecodingUndoesEncodingForAnyBytes) {
  const std::vector<std::string> texts = random_texts(1, 5, 3001);
  for (const PreTokenizer pre : kByteLevel) {
    const Tokenizer tokenizer = train(pre, texts);
    for (std::uint64_t seed = 100; seed < 160; ++seed) {
      std::string text = random_text(seed, seed * 7 % 501);
      if (seed % 3 == 0)  // no structure at all
        for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(Random(seed, 9).uniform_int(256, i));
      for (const bool special : {false, true})
        ASSERT_EQ(tokenizer.decode(tokenizer.encode(text, special)), text) << name(pre) << " seed " << seed;
    }
  }
}

TEST(TokenizerProperty, TrainingDoesNotDependOnThreadsOrOnTheOrderOfTexts) {
  std::vector<std::string> texts = random_texts(2, 23, 2003);
  texts.push_back(random_text(99, 3 << 20));  // longer than a job, so that one text is divided
  for (const PreTokenizer pre : kByteLevel) {
    const std::string one = train(pre, texts).to_json();
    EXPECT_EQ(train(pre, texts, 2).to_json(), one) << name(pre);
    std::vector<std::string> shuffled;
    for (std::uint64_t i = 0; i < texts.size(); ++i) shuffled.push_back(texts[permute(i, texts.size(), 5, 5)]);
    EXPECT_EQ(train(pre, shuffled, 3).to_json(), one) << name(pre);
  }
}

TEST(TokenizerProperty, DividingALongTextChangesNoPiece) {
  const std::string text = random_text(3, 40'009);
  for (const PreTokenizer pre : kByteLevel) {
    std::vector<std::string_view> whole, parts;
    for_each_pre_token(pre, text, 0, text.size(), [&](std::string_view piece) { whole.push_back(piece); });
    int cuts = 0;
    for (std::size_t begin = 0; begin < text.size(); ++cuts) {
      const std::size_t end = safe_boundary(text, begin + 200);
      for_each_pre_token(pre, text, begin, end, [&](std::string_view piece) { parts.push_back(piece); });
      begin = end;
    }
    EXPECT_GT(cuts, 50);
    EXPECT_EQ(parts, whole) << name(pre);
  }
}

/// GPT-2's pattern, alternative by alternative: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+|
/// ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
std::size_t reference_gpt2_end(std::string_view text, std::size_t at) {
  for (const std::string_view contraction : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
    if (text.substr(at).starts_with(contraction)) return at + contraction.size();
  for (const CharClass kind : {CharClass::kLetter, CharClass::kNumber, CharClass::kOther}) {
    const std::size_t body = at + (text[at] == ' ');
    std::size_t end = body;
    while (symbol_at(text, end).kind == kind) end += symbol_at(text, end).bytes;
    if (end > body) return end;
  }
  std::vector<std::size_t> spaces = {at};  // where each begins, and the end
  while (symbol_at(text, spaces.back()).kind == CharClass::kSpace)
    spaces.push_back(spaces.back() + symbol_at(text, spaces.back()).bytes);
  return spaces.back() == text.size() || spaces.size() == 2 ? spaces.back() : spaces[spaces.size() - 2];
}

TEST(TokenizerProperty, ManyPiecesAtOnceAreThoseOfThePattern) {
  for (std::uint64_t seed = 1000; seed < 1400; ++seed) {
    std::string text = random_text(seed, seed % 331);
    if (seed % 4 != 0)  // ASCII alone, mostly with runs
      for (std::size_t i = 0; i < text.size(); ++i)
        text[i] = i > 0 && Random(seed, 1).uniform_int(4, i) == 0 ? text[i - 1] : static_cast<char>(text[i] & 0x7F);
    std::vector<std::string_view> pieces, expected;
    for_each_pre_token(PreTokenizer::kGpt2, text, 0, text.size(),
                       [&](std::string_view piece) { pieces.push_back(piece); });
    for (std::size_t at = 0; at < text.size(); at += expected.back().size())
      expected.push_back(std::string_view(text).substr(at, reference_gpt2_end(text, at) - at));
    ASSERT_EQ(pieces, expected) << "seed " << seed;

    pieces.clear(), expected.clear();
    for_each_pre_token(PreTokenizer::kSmollm, text, 0, text.size(), [&](std::string_view p) { pieces.push_back(p); });
    for (std::size_t begin = 0, end = 0; end <= text.size();) {  // the parts between numbers, each as a separate text
      const Symbol symbol = symbol_at(text, end);
      const bool number = symbol.kind == CharClass::kNumber;
      if (!number && symbol.kind != CharClass::kEnd) {
        end += symbol.bytes;
        continue;
      }
      const std::string_view between = std::string_view(text).substr(begin, end - begin);
      for (std::size_t at = 0; at < between.size(); at += expected.back().size())
        expected.push_back(between.substr(at, reference_gpt2_end(between, at) - at));
      if (!number) break;
      expected.push_back(std::string_view(text).substr(end, symbol.bytes));
      begin = end += symbol.bytes;
    }
    ASSERT_EQ(pieces, expected) << "smollm, seed " << seed;
  }
}

/// The textbook: recount all pairs after every merge.
std::vector<std::pair<int, int>> reference_learn_merges(std::span<const CountedPreToken> pieces, int merges) {
  std::array<int, 256> id_of_byte{};
  for (int id = 0; id < 256; ++id) id_of_byte[alphabet_byte(id)] = id;
  std::vector<std::vector<int>> words;
  for (const CountedPreToken& piece : pieces) {
    words.emplace_back();
    for (const char byte : piece.bytes) words.back().push_back(id_of_byte[static_cast<std::uint8_t>(byte)]);
  }
  std::vector<std::pair<int, int>> learned;
  for (int next = 256; next < 256 + merges; ++next) {
    std::map<std::pair<int, int>, std::int64_t> counts;
    for (std::size_t w = 0; w < words.size(); ++w)
      for (std::size_t i = 0; i + 1 < words[w].size(); ++i) counts[{words[w][i], words[w][i + 1]}] += pieces[w].count;
    const auto best = std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) {
      return a.second != b.second ? a.second < b.second : a.first > b.first;
    });
    learned.push_back(best->first);
    for (std::vector<int>& word : words) {
      std::vector<int> merged;
      for (std::size_t i = 0; i < word.size(); ++i) {
        const bool hit = i + 1 < word.size() && std::pair(word[i], word[i + 1]) == best->first;
        merged.push_back(hit ? next : word[i]);
        i += hit;
      }
      word = std::move(merged);
    }
  }
  return learned;
}

TEST(TokenizerProperty, KeptUpCountsLearnWhatRecountingLearns) {
  const std::string text = random_text(4, 9001) + std::string(57, 'a') + " " + std::string(31, 'a');
  const std::vector<std::string_view> texts = {text};
  const std::vector<CountedPreToken> pieces = count_pre_tokens(PreTokenizer::kGpt2, texts, 1);
  std::vector<std::pair<int, int>> actual;
  for (const Merge& merge : learn_merges({.tokens = 256 + 150, .min_frequency = 1}, pieces))
    actual.emplace_back(merge.left, merge.right);
  EXPECT_EQ(actual, reference_learn_merges(pieces, 150));
}

TEST(TokenizerProperty, LongPiecesMergeAsShortOnesDo) {
  const std::vector<std::string> texts = random_texts(6, 5, 4001);
  const Tokenizer tokenizer = train(PreTokenizer::kGpt2, texts);
  const auto reference_encode = [&](std::string_view piece) {  // best rank over the whole list, again and again
    std::vector<std::string> symbols;
    for (const char& byte : piece) symbols.push_back(bytes_to_unicode({&byte, 1}));
    const std::vector<std::string>& merges = tokenizer.parts().merges;
    while (true) {
      std::size_t best = merges.size(), at = 0;
      for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
        const auto rank = static_cast<std::size_t>(
            std::find(merges.begin(), merges.end(), symbols[i] + " " + symbols[i + 1]) - merges.begin());
        if (rank < best) best = rank, at = i;
      }
      if (best == merges.size()) break;
      symbols[at] += symbols[at + 1];
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
    std::vector<int> ids;
    for (const std::string& symbol : symbols) ids.push_back(*tokenizer.id_of(symbol));
    return ids;
  };
  for (const std::size_t length : {1, 2, 3, 22, 23, 24, 47, 48, 49, 50, 97, 151}) {
    std::string piece;
    for (std::size_t i = 0; i < length; ++i) piece += "etaoinshrdl"[Random(7, length).uniform_int(11, i)];
    for (int round = 0; round < 2; ++round)  // the second answer comes from the cache
      ASSERT_EQ(tokenizer.encode(piece), reference_encode(piece)) << "length " << length;
  }
}

TEST(TokenizerProperty, ThreadsAndTokenizersShareNothingThatShows) {
  const std::vector<std::string> texts = random_texts(8, 4, 3001);
  const Tokenizer small = train(PreTokenizer::kGpt2, texts, 1, 300), large = train(PreTokenizer::kQwen2, texts, 1, 600);
  std::string text = random_text(9, 20'011);
  for (int i = 0; i < 9; ++i) text += "\n" + std::string(30, "etao"[i % 4]) + "rules";  // distinct pieces
  const std::vector<int> small_ids = small.encode(text), large_ids = large.encode(text);
  std::vector<std::jthread> threads;
  std::array<bool, 3> good{};
  for (std::size_t thread = 0; thread < good.size(); ++thread)
    threads.emplace_back([&, thread] {
      good[thread] = true;
      for (int round = 0; round < 3; ++round)
        good[thread] = good[thread] && small.encode(text) == small_ids && large.encode(text) == large_ids;
    });
  threads.clear();
  EXPECT_TRUE(good[0] && good[1] && good[2]);
}

TEST(TokenizerProperty, AMegabyteOfOneCharacterIsNotQuadratic) {
  constexpr double kLimit_s = 30;  // of processor time; about 3 s are used, and a quadratic merge takes hours
  const std::vector<std::string> texts = {std::string(4096, 'a') + " " + std::string(512, 'a'), "x y z"};
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  const Tokenizer tokenizer =
      train_tokenizer({.vocabulary = 256 + 9 + 1, .pre = "gpt-2", .min_frequency = 1}, views, 1);
  const std::clock_t start = std::clock();
  for (const char c : {'a', 'b', ' ', '\n', '-', '7'}) {
    const std::string run(1 << 20, c);
    ASSERT_EQ(tokenizer.decode(tokenizer.encode(run)), run);
  }
  EXPECT_LT(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC, kLimit_s);
}

}  // namespace
}  // namespace slipway
