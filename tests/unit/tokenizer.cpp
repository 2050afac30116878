// Merges worked out by hand, special tokens, tokenizer.json, and the text of every refusal.
#include "src/data/tokenizer.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "src/core/file.hpp"
#include "src/core/json.hpp"
#include "src/data/unicode.hpp"

namespace slipway {
namespace {

constexpr int kThreads = 1;

Tokenizer train(const TokenizerConfig& config, const std::vector<std::string_view>& texts) {
  return train_tokenizer(config, texts, kThreads);
}

/// The 256 bytes, then what these merges make, then <s> (control) and <tool> (user defined).
Tokenizer::Parts small_parts(PreTokenizer pre, std::vector<std::string> merges) {
  Tokenizer::Parts parts{.pre = pre, .merges = std::move(merges)};
  for (int rank = 0; rank < 256; ++rank) {
    const char byte = static_cast<char>(alphabet_byte(rank));
    parts.tokens.push_back(bytes_to_unicode({&byte, 1}));
  }
  for (std::string token : parts.merges) parts.tokens.push_back(token.erase(token.find(' '), 1));
  parts.special_tokens = {static_cast<int>(parts.tokens.size())};
  parts.tokens.push_back("<s>");
  parts.user_defined = {static_cast<int>(parts.tokens.size())};
  parts.tokens.push_back("<tool>");
  parts.eos = parts.special_tokens.front();
  return parts;
}

std::vector<std::string> tokens_of(const Tokenizer& tokenizer, std::string_view text, bool parse_special = false) {
  std::vector<std::string> tokens;
  for (const int id : tokenizer.encode(text, parse_special))
    tokens.push_back(tokenizer.parts().tokens[static_cast<std::size_t>(id)]);
  return tokens;
}

template <class Action>
void expect_error(Fault fault, const std::string& substring, Action&& action) {
  try {
    action();
    ADD_FAILURE() << "no error; expected: " << substring;
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), fault) << error.what();
    EXPECT_NE(std::string(error.what()).find(substring), std::string::npos) << error.what();
  }
}

using Tokens = std::vector<std::string>;

TEST(Tokenizer, MergesLowestRankFirstAndLeftmostAmongEquals) {
  const Tokenizer tokenizer =
      Tokenizer::from_parts(small_parts(PreTokenizer::kGpt2, {"b c", "a b", "a a", "ab c", "aa aa"}));
  EXPECT_EQ(tokens_of(tokenizer, "abc"), (Tokens{"a", "bc"})) << "b c has the lower rank";
  EXPECT_EQ(tokens_of(tokenizer, "abab"), (Tokens{"ab", "ab"}));
  EXPECT_EQ(tokens_of(tokenizer, "aaaaa"), (Tokens{"aaaa", "a"}));
  EXPECT_EQ(tokens_of(tokenizer, std::string(101, 'a')).size(), 26u)
      << "a long piece takes the other path: 25 x aaaa, a";
}

TEST(Tokenizer, MergesNeverCrossAPiece) {
  const Tokenizer tokenizer = Tokenizer::from_parts(small_parts(PreTokenizer::kGpt2, {"a !", "a 1"}));
  EXPECT_EQ(tokens_of(tokenizer, "a!a1"), (Tokens{"a", "!", "a", "1"}));
}

TEST(Tokenizer, LlamaBpeTakesAWholePieceUnmergedAndTheOthersDoNot) {
  for (const PreTokenizer pre :
       {PreTokenizer::kGpt2, PreTokenizer::kLlamaBpe, PreTokenizer::kQwen2, PreTokenizer::kSmollm}) {
    Tokenizer::Parts parts = small_parts(pre, {"b c"});
    parts.tokens.push_back("abcd");  // no merge makes it
    EXPECT_EQ(tokens_of(Tokenizer::from_parts(parts), "abcd"),
              pre == PreTokenizer::kLlamaBpe ? (Tokens{"abcd"}) : (Tokens{"a", "bc", "d"}));
  }
}

TEST(Tokenizer, ControlTokensAreFoundOnlyWhenAskedForAndUserDefinedOnesAlways) {
  const Tokenizer tokenizer = Tokenizer::from_parts(small_parts(PreTokenizer::kGpt2, {}));
  EXPECT_EQ(tokens_of(tokenizer, "<s>x<tool>"), (Tokens{"<", "s", ">", "x", "<tool>"}));
  EXPECT_EQ(tokens_of(tokenizer, "<s>x<tool><s>", true), (Tokens{"<s>", "x", "<tool>", "<s>"}));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("<s>x<tool>", true)), "<s>x<tool>");
  EXPECT_TRUE(tokenizer.is_special(256));
  EXPECT_FALSE(tokenizer.is_special(257));
  EXPECT_FALSE(tokenizer.is_special(-1));
}

TEST(Tokenizer, LongestAtomicTokenIsFoundFirst) {
  Tokenizer::Parts parts = small_parts(PreTokenizer::kGpt2, {});
  parts.special_tokens.push_back(static_cast<int>(parts.tokens.size()));
  parts.tokens.push_back("<s><s>");
  EXPECT_EQ(tokens_of(Tokenizer::from_parts(parts), "<s><s><s>", true), (Tokens{"<s><s>", "<s>"}));
}

TEST(Tokenizer, NfcIsAppliedOnlyWhenAskedFor) {
  Tokenizer::Parts parts = small_parts(PreTokenizer::kQwen2, {});
  EXPECT_EQ(Tokenizer::from_parts(parts).encode("e\u0301").size(), 3u);
  parts.nfc = true;
  EXPECT_EQ(tokens_of(Tokenizer::from_parts(parts), "e\u0301"), (Tokens{"Ã", "©"}));
}

TEST(TokenizerTraining, MostFrequentPairFirstThenSmallestIds) {
  // Pieces "ab" x3, "ba" x3, "cd" x5: c d leads, then a b and b a tie and a (the smaller id) goes first.
  const std::vector<std::string_view> texts = {"ab\nba\ncd\nab\nba\ncd\nab\nba\ncd\ncd\ncd"};
  const Tokenizer tokenizer = train({.vocabulary = 256 + 3 + 1, .pre = "gpt-2"}, texts);
  EXPECT_EQ(tokenizer.parts().merges, (std::vector<std::string>{"c d", "a b", "b a"}));
  EXPECT_EQ(tokenizer.vocabulary_size(), 260);
  EXPECT_EQ(tokenizer.id_of("<|endoftext|>"), 259);
  EXPECT_EQ(tokenizer.eos(), 259);
}

TEST(TokenizerTraining, CountsFollowEveryMerge) {
  // aaaa x2: (a,a) counts 6 and becomes A A; then (A,A) counts 2. By then (a,a) is gone.
  const std::vector<std::string_view> texts = {"aaaa\naaaa"};
  const Tokenizer tokenizer = train({.vocabulary = 256 + 2 + 1, .pre = "gpt-2"}, texts);
  EXPECT_EQ(tokenizer.parts().merges, (std::vector<std::string>{"a a", "aa aa"}));
}

TEST(TokenizerTraining, MergesNeverCrossADocument) {
  const std::vector<std::string_view> documents = {"a", "b", "a", "b"};
  expect_error(Fault::kData, "gave 0 merges", [&] { train({.vocabulary = 258, .pre = "gpt-2"}, documents); });
}

TEST(TokenizerTraining, TooFewMergesNamesTheNumberReached) {
  expect_error(Fault::kData,
               "the texts gave 1 merges of pairs seen at least 2 times, which makes a vocabulary of 258, but "
               "tokenizer.vocabulary is 300",
               [] { train({.vocabulary = 300, .pre = "gpt-2"}, {"ab\nab\ncd"}); });
  EXPECT_EQ(train({.vocabulary = 259, .pre = "gpt-2", .min_frequency = 1}, {"ab\nab\ncd"}).parts().merges.size(), 2u);
}

TEST(TokenizerTraining, ConfigurationIsCheckedFirst) {
  expect_error(Fault::kConfig, "it must be at least 258 (256 bytes and 2 special tokens)",
               [] { train({.vocabulary = 257, .pre = "llama-bpe"}, {"x"}); });
  expect_error(Fault::kConfig, "it must be gpt-2, llama-bpe, qwen2, smollm or char",
               [] { train({.pre = "gpt2"}, {"x"}); });
  expect_error(Fault::kConfig, "tokenizer.min_frequency is 0",
               [] { train({.pre = "gpt-2", .min_frequency = 0}, {"x"}); });
}

TEST(TokenizerTraining, SpecialTokensAreThoseOfTheFamilyAndCountInTheVocabulary) {
  const Tokenizer llama = train({.vocabulary = 258, .pre = "llama-bpe"}, {"x"});
  EXPECT_EQ(llama.id_of("<|begin_of_text|>"), 256);
  EXPECT_EQ(llama.id_of("<|end_of_text|>"), 257);
  EXPECT_EQ(llama.bos(), 256);
  EXPECT_EQ(llama.eos(), 257);
  EXPECT_TRUE(llama.add_bos());
  const Tokenizer qwen = train({.vocabulary = 259, .pre = "qwen2"}, {"x"});
  EXPECT_EQ(qwen.eos(), qwen.id_of("<|endoftext|>"));
  EXPECT_TRUE(qwen.id_of("<|im_start|>") && qwen.id_of("<|im_end|>"));
  EXPECT_FALSE(qwen.add_bos());
  const Tokenizer smollm = train({.vocabulary = 259, .pre = "smollm"}, {"x"});
  EXPECT_EQ(smollm.bos(), smollm.id_of("<|endoftext|>"));
  EXPECT_EQ(smollm.eos(), smollm.bos());
}

TEST(CharTokenizer, ControlIdsAreReservedAndCharactersFollowInOrder) {
  const Tokenizer tokenizer = train({.vocabulary = 100, .pre = "char"}, {"baé\nb"});
  EXPECT_EQ(tokenizer.vocabulary_size(), 32 + 4);
  const std::vector<std::string> names = {"<|pad|>",    "<|unk|>",  "<|bos|>",       "<|eos|>",
                                          "<|system|>", "<|user|>", "<|assistant|>", "<|endofturn|>"};
  for (std::size_t id = 0; id < names.size(); ++id)
    EXPECT_EQ(tokenizer.encode(names[id], true), std::vector<int>{static_cast<int>(id)});
  EXPECT_EQ(tokenizer.encode("\nabé"), (std::vector<int>{32, 33, 34, 35}));
  EXPECT_EQ(tokenizer.encode("z\xff"), (std::vector<int>{1, 1})) << "unknown";
  EXPECT_EQ(tokenizer.eos(), 3);
  EXPECT_EQ(tokenizer.decode(std::vector<int>{34, 35, 7}), "bé<|endofturn|>");
}

TEST(CharTokenizer, RareCharactersGiveWayWhenThereIsNoRoom) {
  const Tokenizer tokenizer = train({.vocabulary = 34, .pre = "char"}, {"aaabbc"});
  EXPECT_EQ(tokenizer.encode("abc"), (std::vector<int>{32, 33, 1}));
}

TEST(TokenizerJson, EveryPartComesBack) {
  for (const PreTokenizer pre :
       {PreTokenizer::kGpt2, PreTokenizer::kLlamaBpe, PreTokenizer::kQwen2, PreTokenizer::kSmollm}) {
    Tokenizer::Parts parts = small_parts(pre, {"a b", "ab \u0120"});
    parts.bos = 256 + 2;
    parts.add_bos = pre == PreTokenizer::kLlamaBpe;
    parts.nfc = pre == PreTokenizer::kQwen2;
    parts.chat_template = "{% for m in messages %}\"{{ m }}\"\n{% endfor %}";
    const Tokenizer tokenizer = Tokenizer::from_parts(parts);
    const Tokenizer reparsed = Tokenizer::from_json(tokenizer.to_json(), "copy");
    EXPECT_EQ(reparsed.to_json(), tokenizer.to_json());
    EXPECT_EQ(reparsed.sha256(), tokenizer.sha256());
    EXPECT_EQ(reparsed.parts().tokens, parts.tokens);
    EXPECT_EQ(reparsed.parts().merges, parts.merges);
    EXPECT_EQ(reparsed.parts().special_tokens, parts.special_tokens);
    EXPECT_EQ(reparsed.parts().user_defined, parts.user_defined);
    EXPECT_EQ(reparsed.parts().pre, pre);
    EXPECT_EQ(reparsed.bos(), parts.bos);
    EXPECT_EQ(reparsed.eos(), parts.eos);
    EXPECT_EQ(reparsed.add_bos(), parts.add_bos);
    EXPECT_EQ(reparsed.parts().nfc, parts.nfc);
    EXPECT_EQ(reparsed.parts().chat_template, parts.chat_template);
  }
  const Tokenizer chars = train({.vocabulary = 100, .pre = "char"}, {"a \"\\\n\u2028é"});
  EXPECT_EQ(Tokenizer::from_json(chars.to_json(), "copy").to_json(), chars.to_json());
}

TEST(TokenizerJson, SidecarGivesTemplateAndEndWhereTheFileHasNone) {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "tokenizer_sidecar";
  std::filesystem::create_directories(folder);
  Json file = Json::parse(Tokenizer::from_parts(small_parts(PreTokenizer::kQwen2, {})).to_json());
  file["model"].erase("slipway");
  std::ofstream(folder / "tokenizer.json") << file.dump();
  std::ofstream(folder / "tokenizer_config.json")
      << R"({"eos_token": {"content": "<s>"}, "bos_token": null, "chat_template": "T"})";
  const Tokenizer tokenizer = Tokenizer::load(folder / "tokenizer.json");
  EXPECT_EQ(tokenizer.eos(), 256);
  EXPECT_EQ(tokenizer.bos(), std::nullopt);
  EXPECT_EQ(tokenizer.parts().chat_template, "T");
  std::filesystem::remove_all(folder);
}

TEST(TokenizerJson, TheChatTemplateIsTheOneThatTransformersTakes) {
  const std::filesystem::path folder = std::filesystem::path(testing::TempDir()) / "tokenizer_templates";
  std::filesystem::create_directories(folder);
  Json file = Json::parse(Tokenizer::from_parts(small_parts(PreTokenizer::kQwen2, {})).to_json());
  std::ofstream(folder / "tokenizer.json") << file.dump();
  const auto load_template = [&](const std::string& chat_template) {
    std::ofstream(folder / "tokenizer_config.json") << R"({"chat_template": )" << chat_template << "}";
    return Tokenizer::load(folder / "tokenizer.json").parts().chat_template;
  };
  EXPECT_EQ(load_template("null"), "");
  EXPECT_EQ(load_template(R"([{"name": "rag", "template": "R"}, {"name": "default", "template": "D"}])"), "D");
  EXPECT_EQ(load_template(R"([{"name": "rag", "template": "R"}])"), "") << "none is called default";
  EXPECT_EQ(load_template(R"({"default": "D", "rag": "R"})"), "D");
  expect_error(Fault::kData, "chat_template holds string, expected a text, or a list",
               [&] { load_template(R"(["a", "b"])"); });
  expect_error(Fault::kData, "chat_template holds object", [&] { load_template(R"([{"name": "default"}])"); });
  expect_error(Fault::kData, "chat_template holds number", [&] { load_template("5"); });

  std::ofstream(folder / "chat_template.jinja") << "{{ 1 }}\n";
  EXPECT_EQ(load_template(R"("C")"), "{{ 1 }}\n") << "the file wins";
  std::ofstream(folder / "chat_template.jinja") << "\xff";
  expect_error(Fault::kData, "chat_template.jinja: it is not UTF-8", [&] { load_template(R"("C")"); });
  std::filesystem::remove(folder / "chat_template.jinja");
  std::ofstream(folder / "tokenizer_config.json") << R"({"eos_token": ["<s>"]})";
  file["model"].erase("slipway");
  std::ofstream(folder / "tokenizer.json") << file.dump();
  expect_error(Fault::kData, "eos_token is array, expected a token's text",
               [&] { Tokenizer::load(folder / "tokenizer.json"); });
  std::ofstream(folder / "tokenizer_config.json") << R"({"eos_token": {"content": 5}})";
  expect_error(Fault::kData, "eos_token is number, expected a token's text",
               [&] { Tokenizer::load(folder / "tokenizer.json"); });
  std::filesystem::remove_all(folder);
}

TEST(TokenizerJson, ANormalizedTokenIsFoundInTheNormalizedText) {
  Tokenizer::Parts parts = small_parts(PreTokenizer::kQwen2, {});
  parts.nfc = true;
  parts.user_defined.push_back(258);
  parts.tokens.emplace_back("<caf\u00e9>");
  const std::string decomposed = "a<cafe\u0301>";
  EXPECT_EQ(tokens_of(Tokenizer::from_parts(parts), decomposed).size(), 8u) << "a raw token is looked for first";
  parts.normalized = {258};
  const Tokenizer tokenizer = Tokenizer::from_parts(parts);
  EXPECT_EQ(tokens_of(tokenizer, decomposed), (Tokens{"a", "<caf\u00e9>"}));
  const Tokenizer reparsed = Tokenizer::from_json(tokenizer.to_json(), "t.json");
  EXPECT_EQ(reparsed.parts().normalized, parts.normalized);
  EXPECT_EQ(reparsed.to_json(), tokenizer.to_json());
}

TEST(TokenizerJson, EndsOfTurnsAndUnusedTokensComeBack) {
  Tokenizer::Parts parts = small_parts(PreTokenizer::kGpt2, {});
  parts.tokens.emplace_back("[reserved for later]");
  parts.unused = {258};
  parts.eot = 256, parts.eom = 257;
  const Tokenizer tokenizer = Tokenizer::from_json(Tokenizer::from_parts(parts).to_json(), "t.json");
  EXPECT_EQ(tokenizer.parts().unused, parts.unused);
  EXPECT_TRUE(tokenizer.is_end_of_generation(256) && tokenizer.is_end_of_generation(257));
  EXPECT_FALSE(tokenizer.is_end_of_generation(255));
  EXPECT_TRUE(tokenizer.may_be_generated(257));
  EXPECT_FALSE(tokenizer.may_be_generated(258) || tokenizer.may_be_generated(259));
  EXPECT_EQ(tokens_of(tokenizer, "[reserved for later]", true).size(), 20u) << "no text has it";
}

/// The JSON of a small tokenizer with one thing changed, and what the refusal must say.
struct Refusal {
  const char* pointer;
  Json value;
  const char* says;
};

TEST(TokenizerJson, WhatIsNotSupportedIsRefusedByName) {
  const Json good = Json::parse(Tokenizer::from_parts(small_parts(PreTokenizer::kLlamaBpe, {"a b"})).to_json());
  const Refusal refusals[] = {
      {"/pre_tokenizer/pretokenizers/0/pattern/Regex", "\\w+", "cuts text by '\\w+'"},
      {"/pre_tokenizer", {{"type", "Metaspace"}}, "has a step 'Metaspace'"},
      {"/pre_tokenizer/pretokenizers/1/add_prefix_space", true, "adds a space before the text"},
      {"/pre_tokenizer/pretokenizers/0", {{"type", "Digits"}, {"individual_digits", false}}, "keeps digits in runs"},
      {"/pre_tokenizer/pretokenizers/0", {{"type", "Digits"}, {"individual_digits", true}}, "with each digit apart;"},
      {"/pre_tokenizer/pretokenizers/1", {{"type", "Digits"}, {"individual_digits", true}}, "has a step 'Digits'"},
      {"/normalizer", {{"type", "Lowercase"}}, "normalizer is 'Lowercase'"},
      {"/decoder", {{"type", "WordPiece"}}, "decoder is 'WordPiece'"},
      {"/model/type", "Unigram", "model is 'Unigram'"},
      {"/model/byte_fallback", true, "byte_fallback"},
      {"/model/dropout", 0.1, "dropout"},
      {"/model/ignore_merges", false, "ignore_merges is false"},
      {"/model/end_of_word_suffix", "</w>", "end_of_word_suffix"},
      {"/model/merges/0", "a q_", "needs the token 'q_'"},
      {"/model/merges/0", "ab", "not two tokens with a space"},
      {"/model/vocab/<s>", 0, "share the id 0"},
      {"/model/vocab/<tool>", 259, "no token has id 258, but there are ids up to 259"},
      {"/model/vocab/b", 999, "has id 999, but only 259 tokens are listed; ids must leave no gap"},
      {"/model/vocab/b", 16'000'000'000, "ids must leave no gap"},
      {"/model/vocab/b", 98.0, "has id 98.0; ids are counted from 0"},
      {"/model/slipway/eot", 261, "the id of eot is 261, but there are 259 tokens"},
      {"/model/slipway/unused", Json::array({258}), "more than once"},
      {"/added_tokens/1/rstrip", true, "has rstrip"},
      {"/added_tokens/1/single_word", true, "has single_word"},
      {"/added_tokens/0/lstrip", true, "has lstrip"},
      {"/post_processor", {{"type", "BertProcessing"}}, "post-processor is 'BertProcessing'"},
      {"/model/vocab", 5, "vocabulary is not an object"},
      {"/model/vocab/a", "x", R"(the token 'a' has id "x")"},
      {"/model/merges/0", 5, "not in the form of a tokenizer.json"},
  };
  for (const Refusal& refusal : refusals) {
    Json changed = good;
    changed[Json::json_pointer(refusal.pointer)] = refusal.value;
    if (std::string(refusal.pointer) == "/model/vocab/<tool>") changed["added_tokens"].erase(1);
    if (std::string(refusal.pointer) == "/model/vocab/<s>") changed["added_tokens"].erase(0);
    expect_error(Fault::kData, refusal.says, [&] { Tokenizer::from_json(changed.dump(), "t.json"); });
  }
  expect_error(Fault::kData, "t.json: not valid JSON (line 1, column 2: it ends too early",
               [] { Tokenizer::from_json("{", "t.json"); });
  const std::string deep = R"({"model": {}, "pre_tokenizer": )" + std::string(1'000'000, '[') +
                           std::string(1'000'000, ']') + "}";  // a copy of it would exhaust the stack
  expect_error(Fault::kData, "t.json: the JSON is nested", [&] { Tokenizer::from_json(deep, "t.json"); });
  Json changed = good;  // with one added token more: "<s>" and "<tool>" stand in the vocabulary too, and count once
  Json& added = changed["added_tokens"];
  added.push_back({{"id", 600}, {"content", "<new>"}, {"special", true}});
  expect_error(Fault::kData, "'<new>' has id 600, but only 260 tokens are listed",
               [&] { Tokenizer::from_json(changed.dump(), "t.json"); });
  added.back() = {{"id", 259}, {"content", ""}, {"special", true}};
  expect_error(Fault::kData, "t.json: the content of the token with id 259 is empty",
               [&] { Tokenizer::from_json(changed.dump(), "t.json"); });
  added.back() = {{"id", 259}, {"content", "<new>"}, {"special", true}};
  EXPECT_EQ(Tokenizer::from_json(changed.dump(), "t.json").vocabulary_size(), 260);
  expect_error(Fault::kData,
               "m.gguf: the file is a GGUF model, but a tokenizer.json is expected; slipway export m.gguf",
               [] { Tokenizer::from_json(std::string("GGUF\3\0\0\0", 8), "m.gguf"); });
  expect_error(Fault::kData, "t.json: the file is a pointer of Git LFS", [] {
    Tokenizer::from_json("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "t.json");
  });
  expect_error(Fault::kData, "no \"model\" object", [] { Tokenizer::from_json("[]", "t.json"); });
  expect_error(Fault::kData, "cannot read /nowhere/t.json", [] { Tokenizer::load("/nowhere/t.json"); });
}

TEST(TokenizerParts, SmollmMayLackTokensOfControlsAndOfBytesThatTextHardlyHas) {
  Tokenizer::Parts parts = small_parts(PreTokenizer::kSmollm, {"! !"});
  const auto remove_byte = [&](char byte) {
    std::string& token = *std::ranges::find(parts.tokens, bytes_to_unicode({&byte, 1}));
    token = "no longer " + std::to_string(byte);
    parts.special_tokens.push_back(static_cast<int>(&token - parts.tokens.data()));
  };
  remove_byte('\x04'), remove_byte('\xff');
  const Tokenizer tokenizer = Tokenizer::from_parts(parts);
  EXPECT_EQ(tokens_of(tokenizer, "a\x04\xff"), (Tokens{"a"})) << "no id stands for them";
  EXPECT_EQ(tokens_of(tokenizer, "!\x04!!"), (Tokens{"!", "!!"})) << "what they part does not merge, as in llama.cpp";
  EXPECT_EQ(tokens_of(tokenizer, std::string(60, '!') + "\x04!").size(), 31u) << "nor in a long piece";
  EXPECT_TRUE(tokenizer.encode("\x04").empty());
  parts.pre = PreTokenizer::kGpt2;
  expect_error(Fault::kData, "there is no token for byte 4", [&] { Tokenizer::from_parts(parts); });
  parts.pre = PreTokenizer::kSmollm;
  remove_byte('\n');
  expect_error(Fault::kData, "there is no token for byte 10", [&] { Tokenizer::from_parts(parts); });
}

TEST(TokenizerParts, WhatWouldLoseTextOrCrashIsRefused) {
  Tokenizer::Parts parts = small_parts(PreTokenizer::kGpt2, {});
  parts.tokens[5] = "5th";
  expect_error(Fault::kData, "there is no token for byte 38", [&] { Tokenizer::from_parts(parts); });
  parts = small_parts(PreTokenizer::kGpt2, {});
  parts.tokens.push_back("a");
  expect_error(Fault::kData, "the token 'a' has ids 64 and 258", [&] { Tokenizer::from_parts(parts); });
  parts.tokens.back() = "two words";
  expect_error(Fault::kData, "not in GPT-2's byte alphabet", [&] { Tokenizer::from_parts(parts); });
  parts.tokens.back() = "";
  expect_error(Fault::kData, "token 258 is empty", [&] { Tokenizer::from_parts(parts); });
  parts.tokens.pop_back();
  parts.eos = 258;
  expect_error(Fault::kData, "the end-of-text token has id 258, but there are 258 tokens",
               [&] { Tokenizer::from_parts(parts); });
  const Tokenizer good = Tokenizer::from_parts(small_parts(PreTokenizer::kGpt2, {}));
  expect_error(Fault::kData, "token id 258 is outside the vocabulary of 258 ids",
               [&] { good.decode(std::vector<int>{258}); });
  expect_error(Fault::kData, "token id -1", [&] { good.decode(std::vector<int>{-1}); });
}

}  // namespace
}  // namespace slipway
