// The tokenizer of a Hugging Face folder: the effect of each file beside tokenizer.json, and their precedence.
#include "src/data/hugging_face_tokenizer.hpp"

#include <gtest/gtest.h>

#include "src/core/file.hpp"
#include "src/core/json.hpp"
#include "src/data/tokenizer_json.hpp"
#include "tests/support/core_files.hpp"
#include "tests/support/tiny_tokenizer.hpp"

namespace slipway {
namespace {

constexpr int kTokens = 270;
constexpr int kEndOfText = 264, kThink = 268, kTurn = 269;  // <|endoftext|> is tiny_tokenizer's first special

/// A folder with a tokenizer.json that nobody of ours wrote: 264 to 267 control tokens, <think> in any text, <|turn|>
/// an ordinary token, and neither begin nor end.
struct TokenizerFolder {
  ScratchFolder scratch;
  Json tokenizer;

  TokenizerFolder() {
    Tokenizer::Parts parts = test::tiny_tokenizer(kTokens, PreTokenizer::kSmollm).parts();
    parts.tokens[kThink] = "<think>";
    parts.tokens[kTurn] = "<turn>";
    parts.user_defined = {kThink};
    parts.special_tokens = {264, 265, 266, 267};
    parts.bos = parts.eos = std::nullopt;
    tokenizer = Json::parse(write_tokenizer_json(parts));
    tokenizer["model"].erase("slipway");
    write("tokenizer.json", tokenizer);
  }
  void write(const char* file, const Json& json) const { atomic_write_file(scratch / file, json.dump()); }
  void remove(const char* file) const { std::filesystem::remove(scratch / file); }
  Tokenizer read() const { return read_hugging_face_tokenizer(scratch.path()); }
  void expect_refused(const std::string& substring) const {
    expect_error(Fault::kStorage, substring, [&] { read(); });
  }
};

using Ids = std::vector<int>;

TEST(HuggingFaceTokenizer, TokenizerJsonAloneIsEnough) {
  const TokenizerFolder folder;
  const Tokenizer tokenizer = folder.read();
  EXPECT_EQ(tokenizer.vocabulary_size(), kTokens);
  EXPECT_EQ(tokenizer.parts().pre, PreTokenizer::kSmollm);
  EXPECT_EQ(tokenizer.eos(), kEndOfText) << "the token that usually ends texts";
  EXPECT_EQ(tokenizer.end_of_generation_ids(), (Ids{kEndOfText}));
  EXPECT_EQ(tokenizer.encode("<think><|endoftext|>").front(), kThink) << "found in any text";
  EXPECT_EQ(tokenizer.encode("<|endoftext|>", true), (Ids{kEndOfText})) << "found where special text is asked for";
  EXPECT_GT(tokenizer.encode("<|endoftext|>").size(), 1u);
}

TEST(HuggingFaceTokenizer, BeginAndEndAreTextsOrObjects) {
  const TokenizerFolder folder;
  folder.write("tokenizer_config.json",
               {{"bos_token", "<|special_265|>"}, {"eos_token", {{"content", "<turn>"}, {"lstrip", false}}}});
  const Tokenizer tokenizer = folder.read();
  EXPECT_EQ(tokenizer.bos(), 265);
  EXPECT_EQ(tokenizer.eos(), kTurn);
  EXPECT_TRUE(tokenizer.is_special(kTurn)) << "a named token is a control token, whatever tokenizer.json has it as";
  EXPECT_FALSE(tokenizer.add_bos());
  folder.write("tokenizer_config.json", {{"eos_token", 5}});
  folder.expect_refused("tokenizer_config.json: eos_token is number, expected a token's text");
}

TEST(HuggingFaceTokenizer, SpecialTokensMapCountsWhereTheConfigListsNoAddedTokens) {
  const TokenizerFolder folder;
  folder.write("special_tokens_map.json", {{"eos_token", "<|special_266|>"}});
  folder.write("tokenizer_config.json", {{"bos_token", "<|special_265|>"}, {"eos_token", "<turn>"}});
  EXPECT_EQ(folder.read().eos(), 266);
  EXPECT_EQ(folder.read().bos(), 265);
  folder.write("tokenizer_config.json", {{"eos_token", "<turn>"}, {"added_tokens_decoder", Json::object()}});
  EXPECT_EQ(folder.read().eos(), kTurn);
  folder.remove("tokenizer_config.json");
  EXPECT_EQ(folder.read().eos(), 266);
  folder.write("special_tokens_map.json", 5);
  folder.expect_refused("special_tokens_map.json: it is not a JSON object");
}

TEST(HuggingFaceTokenizer, AddBosTokenWinsOverTheTemplate) {
  TokenizerFolder folder;
  folder.write("tokenizer_config.json", {{"bos_token", "<|special_265|>"}, {"add_bos_token", true}});
  EXPECT_TRUE(folder.read().add_bos());
  EXPECT_EQ(folder.read().bos(), 265);
  folder.write("tokenizer_config.json", {{"bos_token", nullptr}, {"add_bos_token", true}});
  EXPECT_FALSE(folder.read().add_bos()) << "there is none to add";

  folder.tokenizer["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single", {{{"SpecialToken", {{"id", "<|special_266|>"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}}}}}},
      {"special_tokens", {{"<|special_266|>", {{"id", "<|special_266|>"}, {"ids", {266}}}}}}};
  folder.write("tokenizer.json", folder.tokenizer);
  folder.remove("tokenizer_config.json");
  EXPECT_TRUE(folder.read().add_bos());
  EXPECT_EQ(folder.read().bos(), 266) << "the template's";
  folder.write("tokenizer_config.json", {{"bos_token", "<|special_265|>"}, {"add_bos_token", false}});
  EXPECT_FALSE(folder.read().add_bos());
  EXPECT_EQ(folder.read().bos(), 265);
  folder.write("tokenizer_config.json", {{"add_bos_token", true}});
  EXPECT_FALSE(folder.read().add_bos());
  EXPECT_EQ(folder.read().bos(), 266) << "known, but not added";
  folder.write("tokenizer_config.json", {{"add_bos_token", "yes"}});
  folder.expect_refused("tokenizer_config.json: add_bos_token is \"yes\", expected true or false");
}

TEST(HuggingFaceTokenizer, AddedTokensDecoderGivesKindsAndTokensBehindTheOthers) {
  const TokenizerFolder folder;
  const auto token = [](const char* content, bool special) { return Json{{"content", content}, {"special", special}}; };
  const auto write_decoder = [&](const Json& decoder) {
    folder.write("tokenizer_config.json", {{"added_tokens_decoder", decoder}});
  };
  write_decoder({{"271", token("<second>", false)}, {"270", token("<first>", true)}, {"268", token("<think>", true)}});
  const Tokenizer tokenizer = folder.read();
  EXPECT_EQ(tokenizer.vocabulary_size(), 272);
  EXPECT_EQ(tokenizer.id_of("<first>"), 270);
  EXPECT_TRUE(tokenizer.is_special(270) && tokenizer.is_special(kThink) && !tokenizer.is_special(271));
  EXPECT_EQ(tokenizer.encode("<second>"), (Ids{271}));

  write_decoder({{"300", token("<new>", true)}});
  folder.expect_refused("the added token '<new>' has the id 300, but tokenizer.json has 270 tokens and lacks it; load");
  write_decoder({{"5", token("<think>", false)}});
  folder.expect_refused("the added token '<think>' has the id 5, but tokenizer.json gives it the id 268");
  write_decoder({{"268", {{"content", "<think>"}, {"rstrip", true}}}});
  folder.expect_refused("the added token '<think>' has rstrip, which is not supported");
  for (const Json& invalid :
       {Json{{"x", token("<think>", true)}}, Json{{"268", "<think>"}}, Json{{"268", {{"content", ""}}}}}) {
    write_decoder(invalid);
    folder.expect_refused("expected an id and a token with its content");
  }
  write_decoder(5);
  folder.expect_refused("added_tokens_decoder is number, expected an object of ids and tokens");
}

TEST(HuggingFaceTokenizer, TheTemplateFileWins) {
  const TokenizerFolder folder;
  folder.write(
      "tokenizer_config.json",
      {{"chat_template", {{{"name", "default"}, {"template", "D"}}, {{"name", "tool_use"}, {"template", "T"}}}}});
  EXPECT_EQ(folder.read().parts().chat_template, "D");
  atomic_write_file(folder.scratch / "chat_template.jinja", "J");
  EXPECT_EQ(folder.read().parts().chat_template, "J");
  atomic_write_file(folder.scratch / "chat_template.jinja", "\xff");
  folder.expect_refused("chat_template.jinja: it is not UTF-8");
}

TEST(HuggingFaceTokenizer, EveryEndTokenOfGenerationConfigEndsGeneration) {
  const TokenizerFolder folder;
  folder.write("tokenizer_config.json", {{"eos_token", "<turn>"}});
  folder.write("config.json", {{"eos_token_id", 267}});
  EXPECT_EQ(folder.read().end_of_generation_ids(), (Ids{kTurn, 267}))
      << "config.json's, without a generation_config.json";
  folder.write("generation_config.json", {{"eos_token_id", {kTurn, kEndOfText}}});
  EXPECT_EQ(folder.read().end_of_generation_ids(), (Ids{kTurn, kEndOfText}));
  folder.write("generation_config.json", {{"eos_token_id", {264, 265, 266, 267, 999, 266}}});
  const Tokenizer tokenizer = folder.read();
  EXPECT_EQ(tokenizer.end_of_generation_ids(), (Ids{kTurn, 264, 265, 266, 267})) << "999 is no token";
  EXPECT_EQ(tokenizer.eos(), kTurn);
  EXPECT_TRUE(tokenizer.is_end_of_generation(267) && !tokenizer.is_end_of_generation(kThink));
  EXPECT_EQ(Tokenizer::from_json(tokenizer.to_json(), "copy").end_of_generation_ids(),
            tokenizer.end_of_generation_ids());

  folder.write("tokenizer_config.json", Json::object());
  folder.write("generation_config.json", {{"eos_token_id", 266}});
  EXPECT_EQ(folder.read().eos(), 266) << "where no other file names one";
  for (const Json& invalid : {Json("x"), Json(-1), Json(2.5), Json{1, "x"}}) {
    folder.write("generation_config.json", {{"eos_token_id", invalid}});
    folder.expect_refused("generation_config.json: eos_token_id is " + invalid.dump() + ", expected the id of a token");
  }
}

TEST(HuggingFaceTokenizer, FoldersWithoutAReadableTokenizerAreRefused) {
  const TokenizerFolder folder;
  folder.write("tokenizer_config.json", Json::array());
  folder.expect_refused("tokenizer_config.json: it is not a JSON object");
  folder.remove("tokenizer_config.json");
  folder.write("tokenizer.json", {{"model", {{"type", "Unigram"}}}});
  folder.expect_refused("tokenizer.json: its pre-tokenizer");
  Json incomplete = folder.tokenizer;
  incomplete["model"]["vocab"]["a-a"] = Json(incomplete["model"]["vocab"]["a"]);
  incomplete["model"]["vocab"].erase("a");
  folder.write("tokenizer.json", incomplete);
  folder.expect_refused(folder.scratch.path().string() + ": tokenizer: there is no token for byte 97");
  folder.remove("tokenizer.json");
  folder.expect_refused("tokenizer.json is missing; load the tokenizer with transformers and save it again");
  atomic_write_file(folder.scratch / "tokenizer.model", "x");
  folder.expect_refused("tokenizer.json is missing, and tokenizer.model alone is not read;");
}

TEST(HuggingFaceTokenizer, ATokenizerJsonInAModelsFolderIsTheModelsTokenizer) {
  const TokenizerFolder folder;
  folder.write("tokenizer_config.json", {{"eos_token", "<turn>"}});
  folder.write("generation_config.json", {{"eos_token_id", {kTurn, 265}}});
  const std::filesystem::path file = folder.scratch / "tokenizer.json";
  EXPECT_EQ(load_tokenizer_file(file).end_of_generation_ids(), (Ids{kTurn})) << "no model: Tokenizer::load";
  folder.write("config.json", {{"model_type", "llama"}});
  EXPECT_EQ(load_tokenizer_file(file).sha256(), folder.read().sha256());
  EXPECT_EQ(load_tokenizer_file(file).end_of_generation_ids(), (Ids{kTurn, 265}));
}

}  // namespace
}  // namespace slipway
