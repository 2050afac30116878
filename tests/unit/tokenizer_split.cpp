// Where the pre-tokenizers cut; the expected pieces are worked out by hand from the patterns.
#include <gtest/gtest.h>

#include "src/data/pre_tokenizer.hpp"
#include "src/data/unicode.hpp"

namespace slipway {
namespace {

using PreTokens = std::vector<std::string>;

PreTokens split(PreTokenizer pre, std::string_view text) {
  PreTokens pre_tokens;
  for_each_pre_token(pre, text, 0, text.size(),
                     [&](std::string_view pre_token) { pre_tokens.emplace_back(pre_token); });
  return pre_tokens;
}

TEST(TokenizerSplit, Gpt2KeepsDigitsTogetherAndContractsInLowerCaseOnly) {
  EXPECT_EQ(split(PreTokenizer::kGpt2, "I'll say: it's 12345, I'LL"),
            (PreTokens{"I", "'ll", " say", ":", " it", "'s", " 12345", ",", " I", "'", "LL"}));
}

TEST(TokenizerSplit, LlamaBpeCutsDigitsByThreesAndContractsInAnyCase) {
  EXPECT_EQ(split(PreTokenizer::kLlamaBpe, "I'LL say: 1234567, it's"),
            (PreTokens{"I", "'LL", " say", ":", " ", "123", "456", "7", ",", " it", "'s"}));
}

TEST(TokenizerSplit, Qwen2CutsEveryDigit) {
  EXPECT_EQ(split(PreTokenizer::kQwen2, "a 123"), (PreTokens{"a", " ", "1", "2", "3"}));
}

TEST(TokenizerSplit, SmollmTakesEachNumberOutAndCutsWhatIsBetweenAsGpt2Does) {
  EXPECT_EQ(split(PreTokenizer::kSmollm, "a 123, it's I'LL"),
            (PreTokens{"a", " ", "1", "2", "3", ",", " it", "'s", " I", "'", "LL"}));
  EXPECT_EQ(split(PreTokenizer::kSmollm, "x   7   y\n\n8 \n"),
            (PreTokens{"x", "   ", "7", "  ", " y", "\n\n", "8", " \n"}))
      << "a number ends a run of spaces as the end of the text does";
  EXPECT_EQ(split(PreTokenizer::kSmollm, "'1s ''2t3's-4-!5"),
            (PreTokens{"'", "1", "s", " ''", "2", "t", "3", "'s", "-", "4", "-!", "5"}));
  EXPECT_EQ(split(PreTokenizer::kSmollm, "½٣ \u00a0Ⅷ\u3000汉"), (PreTokens{"½", "٣", " \u00a0", "Ⅷ", "\u3000", "汉"}))
      << "numbers are Unicode's";
}

TEST(TokenizerSplit, ARunOfSpacesLeavesItsLastToTheNextWordUnlessItEndsTheText) {
  for (const PreTokenizer pre :
       {PreTokenizer::kGpt2, PreTokenizer::kLlamaBpe, PreTokenizer::kQwen2, PreTokenizer::kSmollm}) {
    EXPECT_EQ(split(pre, "a   b  "), (PreTokens{"a", "  ", " b", "  "}));
    EXPECT_EQ(split(pre, " "), (PreTokens{" "}));
  }
}

TEST(TokenizerSplit, NewlinesEndAPieceInLlamaBpeAndBelongToThePunctuationBeforeThem) {
  const std::string text = "x;\r\n\n  \n  y\t\n";
  EXPECT_EQ(split(PreTokenizer::kLlamaBpe, text), (PreTokens{"x", ";\r\n\n", "  \n", " ", " y", "\t\n"}));
  EXPECT_EQ(split(PreTokenizer::kGpt2, text), (PreTokens{"x", ";", "\r\n\n  \n ", " y", "\t\n"}));
}

TEST(TokenizerSplit, LlamaBpeLetsOneMarkLeadAWordButNoDigitAndNoNewline) {
  EXPECT_EQ(split(PreTokenizer::kLlamaBpe, "(foo _bar 1x\nz"),
            (PreTokens{"(foo", " _", "bar", " ", "1", "x", "\n", "z"}));
}

TEST(TokenizerSplit, ClassesAreUnicodesAndNotAscii) {
  EXPECT_EQ(split(PreTokenizer::kGpt2, "é汉½٣ \u00a0\u3000x"), (PreTokens{"é汉", "½٣", " \u00a0", "\u3000", "x"}));
  EXPECT_EQ(split(PreTokenizer::kGpt2, "e\u0301a"), (PreTokens{"e", "\u0301", "a"})) << "a combining mark is no letter";
}

TEST(TokenizerSplit, ByteThatIsNotUtf8IsOneSymbolOfItsOwn) {
  EXPECT_EQ(split(PreTokenizer::kGpt2, "a\xff\xfe!b"), (PreTokens{"a", "\xff\xfe!", "b"}));
  EXPECT_EQ(split(PreTokenizer::kChar, "\xc3\xc3\xa9\xed\xa0\x80"), (PreTokens{"\xc3", "é", "\xed", "\xa0", "\x80"}))
      << "a surrogate is not well-formed";
}

TEST(TokenizerSplit, SafeCutIsALetterAfterALineFeed) {
  EXPECT_EQ(safe_boundary("ab\n\n c\nd", 0), 7u);
  EXPECT_EQ(safe_boundary("ab\ncd", 3), 3u);
  EXPECT_EQ(safe_boundary("ab\ncd", 4), 5u) << "the end when there is none";
  EXPECT_EQ(safe_boundary("\n1\n é", 0), 6u);
}

TEST(Unicode, ByteAlphabetIsGpt2s) {
  EXPECT_EQ(bytes_to_unicode("a b\n"), "aĠbĊ");
  EXPECT_EQ(bytes_to_unicode("é"), "Ã©");
  EXPECT_EQ(unicode_to_bytes("ĠÃ©"), " é");
  EXPECT_EQ(unicode_to_bytes("a b"), std::nullopt) << "a plain space is not in the alphabet";
  EXPECT_EQ(alphabet_byte(0), '!');
  EXPECT_EQ(alphabet_byte(188), 0) << "after 33..126, 161..172 and 174..255 comes byte 0";
}

TEST(Unicode, Utf8IsStrict) {
  for (const char* good : {"", "aé汉👍", "\xed\x9f\xbf\xee\x80\x80", "\xf4\x8f\xbf\xbf", "\xef\xbf\xbd"})
    EXPECT_TRUE(is_utf8(good)) << good;
  for (const char* bad :
       {"\x80", "\xc0\x80", "\xc3", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5"})
    EXPECT_FALSE(is_utf8(bad)) << bad;
}

TEST(Unicode, NfcComposesAndLeavesInvalidBytes) {
  EXPECT_EQ(to_nfc("e\u0301 \u212b"), "é Å");
  EXPECT_EQ(to_nfc("e\u0301\xff"
                   "e\u0301\xc3"),
            "é\xffé\xc3");
}

}  // namespace
}  // namespace slipway
