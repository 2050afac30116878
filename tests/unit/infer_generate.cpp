// Generation and its text: stops, streams, constraints.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "kernels/backend/cpu_backend.hpp"
#include "src/infer/generate.hpp"
#include "src/infer/text_stream.hpp"
#include "tests/support/core_files.hpp"
#include "tests/support/random_model.hpp"
#include "tests/support/tiny_tokenizer.hpp"

namespace slipway {
namespace {

/// The output of a stream for each piece of input, joined by '|'; then that of finish().
std::string stream_pieces(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  std::string output;
  TextStream stream(stops, [&](std::string_view text) { output += text; });
  for (const std::string& piece : pieces) {
    const bool is_stopped = stream.add(piece);
    output += '|';
    if (is_stopped) break;
  }
  stream.finish();
  return output;
}

TEST(TextStreamTest, HoldsACharacterUntilItIsWhole) {
  EXPECT_EQ(stream_pieces({}, {"a\xe2", "\x82",
                               "\xac"
                               "b"}),
            "a||\u20ac"
            "b|");
  EXPECT_EQ(stream_pieces({}, {"\xf0\x9f", "\x99\x82"}), "|\U0001f642|");
}

TEST(TextStreamTest, BytesThatAreNoUtf8AreShownAsReplacements) {
  EXPECT_EQ(stream_pieces({}, {"\xff"
                               "a"}),
            "\ufffd"
            "a|");
  EXPECT_EQ(stream_pieces({}, {"\xe2\x82"}), "|\ufffd\ufffd");  // the text ends inside a character
}

TEST(TextStreamTest, HoldsWhatMayBeginAStopString) {
  EXPECT_EQ(stream_pieces({"END"}, {"xE", "N", "Q"}), "x||ENQ|");
  EXPECT_EQ(stream_pieces({"END"}, {"xE", "ND", "never"}), "x||");
  EXPECT_EQ(stream_pieces({"aab"}, {"aa", "ab"}), "||a");
}

TEST(TextStreamTest, TheEarliestOfSeveralStopsWinsAndTheTextEndsBeforeIt) {
  TextStream stream({"yz", "xy", ""}, {});
  EXPECT_FALSE(stream.add("ab"));
  EXPECT_TRUE(stream.add("cxyz"));
  EXPECT_EQ(stream.text(), "abc");
  EXPECT_EQ(stream.stop(), "xy");
}

class GenerateTest : public testing::Test {
 protected:
  GenerateTest() : spec(test::tiny_spec("llama", true)), tokenizer(test::tiny_tokenizer(spec.vocabulary)) {
    spec.context = 48;
    model = std::make_unique<Model>(spec, cpu_backend(), *self_group, ModelOptions{});
    model->parameters().load(test::RandomWeights(spec, /*seed=*/8));
    model->update_compute_copy();
  }
  Generation greedy(const std::string& prompt, int tokens, std::vector<std::string> stops = {},
                    Constraint* constraint = nullptr) {
    return generate(*model, tokenizer, prompt,
                    {.max_new_tokens = tokens, .stops = std::move(stops), .sampling = {.temperature = 0}}, {},
                    constraint);
  }
  std::unique_ptr<Group> self_group = make_self_group();
  ModelSpec spec;
  Tokenizer tokenizer;
  std::unique_ptr<Model> model;
};

/// Lets only bytes of a set through, and forces a beginning.
class LetterConstraint : public Constraint {
 public:
  LetterConstraint(const Tokenizer& tokenizer, std::string_view letters, std::vector<int> forced_prefix)
      : mask_(static_cast<std::size_t>(tokenizer.vocabulary_size()), 0), forced_prefix_(std::move(forced_prefix)) {
    for (const char letter : letters)
      mask_[static_cast<std::size_t>(tokenizer.encode(std::string(1, letter)).front())] = 1;
  }
  std::vector<int> forced_tokens(std::span<const int> generated) override {
    return generated.empty() ? forced_prefix_ : std::vector<int>{};
  }
  TokenMask allowed_mask(std::span<const int>) override { return mask_; }

 private:
  std::vector<std::uint8_t> mask_;
  std::vector<int> forced_prefix_;
};

TEST_F(GenerateTest, IdsAreTheGreedyOnesOfOnePassAfterAnother) {
  const Generation result = greedy("the thing", 9);
  std::vector<int> ids = tokenizer.encode("the thing");
  EXPECT_EQ(result.prompt_ids, ids);
  const int V = spec.vocabulary;
  std::vector<float> logits(static_cast<std::size_t>(V));
  for (const int id : result.ids) {
    InferenceState state = model->make_state(1, 48);
    model->infer(ids, state, {logits.data(), 1, V, V}, true);
    ASSERT_EQ(id, std::max_element(logits.begin(), logits.end()) - logits.begin()) << "after " << ids.size();
    ids.push_back(id);
  }
  EXPECT_EQ(result.text, tokenizer.decode(result.ids));
}

TEST_F(GenerateTest, EqualSeedsGiveEqualTextAndOthersDoNot) {
  const auto run = [&](std::uint64_t seed) {
    return generate(*model, tokenizer, "on",
                    {.max_new_tokens = 20, .sampling = {.temperature = 1.5, .top_p = 1, .seed = seed}})
        .ids;
  };
  EXPECT_EQ(run(3), run(3));
  EXPECT_NE(run(3), run(4));
}

TEST_F(GenerateTest, EndsAtTheContextAndSaysSo) {
  const Generation result = greedy("the thing", 1000);
  EXPECT_EQ(name(result.reason), "context");
  EXPECT_EQ(result.prompt_ids.size() + result.ids.size(), 48u);
}

TEST_F(GenerateTest, EndsAtTheEndTokenWhichIsAnIdAndNoText) {
  LetterConstraint constraint(tokenizer, "ab",
                              {tokenizer.encode("x").front(), *tokenizer.eos(), tokenizer.encode("y").front()});
  const Generation result = greedy("the", 10, {}, &constraint);
  EXPECT_EQ(name(result.reason), "eos");
  EXPECT_EQ(result.ids.size(), 2u);
  EXPECT_EQ(result.text, "x");
}

TEST_F(GenerateTest, EndsAtTheEndOfATurnToo) {
  Tokenizer::Parts parts = tokenizer.parts();
  parts.eot = 270, parts.eom = 271;
  tokenizer = Tokenizer::from_parts(parts);
  for (const int end : {270, 271}) {
    LetterConstraint constraint(tokenizer, "ab", {tokenizer.encode("x").front(), end, tokenizer.encode("y").front()});
    const Generation result = greedy("the", 10, {}, &constraint);
    EXPECT_EQ(name(result.reason), "eos");
    EXPECT_EQ(result.ids.back(), end);
    EXPECT_EQ(result.text, "x");
  }
}

TEST_F(GenerateTest, RowsBehindTheTokensAndUnusedTokensAreNeverChosen) {
  constexpr int kTokens = 280;  // of 290 rows
  const int argmax_id = greedy("the thing", 1).ids.front();
  const Tokenizer full_tokenizer = tokenizer;  // its masks are as wide as the logits
  Tokenizer::Parts parts = tokenizer.parts();
  parts.tokens.resize(kTokens);
  std::erase_if(parts.special_tokens, [&](int id) { return id >= kTokens || id == argmax_id; });
  if (argmax_id < kTokens) parts.unused = {argmax_id};
  tokenizer = Tokenizer::from_parts(parts);
  const Generation result = greedy("the thing", 30);
  EXPECT_GT(result.ids.size(), 1u);
  for (const int id : result.ids) {
    EXPECT_LT(id, kTokens);
    EXPECT_NE(id, argmax_id);
  }
  LetterConstraint constraint(full_tokenizer, "pq", {});
  EXPECT_EQ(greedy("the", 4, {}, &constraint).text.find_first_not_of("pq"), std::string::npos) << "with a mask as well";
}

TEST_F(GenerateTest, EndsBeforeAStopString) {
  std::vector<int> forced_prefix;
  for (const char c : std::string("abSTOPcd")) forced_prefix.push_back(tokenizer.encode(std::string(1, c)).front());
  LetterConstraint constraint(tokenizer, "e", forced_prefix);
  const Generation result = greedy("the", 20, {"STOP"}, &constraint);
  EXPECT_EQ(name(result.reason), "stop");
  EXPECT_EQ(result.text, "ab");
  EXPECT_EQ(result.stop, "STOP");
  EXPECT_EQ(result.ids.size(), 6u);
}

TEST_F(GenerateTest, AConstraintForcesTokensAndMasksTheRest) {
  LetterConstraint constraint(tokenizer, "pq", tokenizer.encode("xy"));
  const Generation result = greedy("the", 12, {}, &constraint);
  EXPECT_EQ(result.text.substr(0, 2), "xy");
  EXPECT_EQ(result.text.find_first_not_of("pq", 2), std::string::npos) << result.text;
  EXPECT_EQ(result.forced_count, 2);
  EXPECT_EQ(result.ids.size(), 12u);

  // What was forced has been read: the free token after it is the one that follows that text.
  LetterConstraint mask_only(tokenizer, "pq", {});
  const Generation direct = greedy("thexy", 1, {}, &mask_only);
  EXPECT_EQ(direct.prompt_ids.size(), result.prompt_ids.size() + 2);
  EXPECT_EQ(direct.ids.front(), result.ids[2]);
}

TEST_F(GenerateTest, ForcedTokensDoNotExceedWhatWasAskedFor) {
  LetterConstraint constraint(tokenizer, "pq", tokenizer.encode("xyz"));
  EXPECT_EQ(greedy("the", 2, {}, &constraint).text, "xy");
}

TEST_F(GenerateTest, StreamsExactlyTheText) {
  std::string output;
  const Generation result =
      generate(*model, tokenizer, "in", {.max_new_tokens = 30, .sampling = {.temperature = 1, .seed = 2}},
               [&](std::string_view text) { output += text; });
  std::string expected;  // the same bytes at once, with those that are no UTF-8 replaced
  TextStream one_shot({}, [&](std::string_view text) { expected += text; });
  one_shot.add(result.text);
  one_shot.finish();
  EXPECT_FALSE(output.empty());
  EXPECT_EQ(output, expected);
}

TEST_F(GenerateTest, AnEmptyPromptBeginsADocument) {
  EXPECT_EQ(greedy("", 3).prompt_ids, std::vector<int>{*tokenizer.bos()});
}

TEST_F(GenerateTest, APromptThatFillsTheContextIsRefusedWithBothNumbers) {
  expect_error(Fault::kConfig, "60 tokens, but model.context is 48", [&] { greedy(std::string(60, 'z'), 3); });
}

TEST(EncodeFromStartTest, BosStandsFirstExactlyWhereAddBosIsSet) {
  Tokenizer::Parts parts = test::tiny_tokenizer(290).parts();
  const Tokenizer no_bos = Tokenizer::from_parts(parts);
  parts.add_bos = true;
  const Tokenizer with_bos = Tokenizer::from_parts(parts);
  std::vector<int> ids = encode_with_bos(no_bos, "thing");
  EXPECT_EQ(ids, no_bos.encode("thing"));
  ids.insert(ids.begin(), *with_bos.bos());
  EXPECT_EQ(encode_with_bos(with_bos, "thing"), ids);
}

}  // namespace
}  // namespace slipway
