// Scores: which ids are scored, and that the values match the definition.
#include "src/infer/score.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <numbers>

#include "kernels/backend/cpu_backend.hpp"
#include "tests/support/core_files.hpp"
#include "tests/support/random_model.hpp"
#include "tests/support/tiny_tokenizer.hpp"

namespace slipway {
namespace {

// Logits and their log-sum-exp are f32 near 6: two roundings of 2^-24 * 6 and the sums' order.
constexpr double kTolerance = 5e-6;

class ScoreTest : public testing::Test {
 protected:
  ScoreTest() : model(spec, cpu_backend(), *self_group, {}) {
    model.parameters().load(test::RandomWeights(spec, /*seed=*/9));
    model.update_compute_copy();
  }

  /// -ln softmax(logits)[id] in f64.
  static double nll(std::span<const float> logits, int id) {
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
    return std::log(sum) - static_cast<double>(logits[static_cast<std::size_t>(id)]);
  }
  std::vector<float> last_logits(std::span<const int> prefix) {
    std::vector<float> logits(static_cast<std::size_t>(spec.vocabulary));
    InferenceState state = model.make_state(1, static_cast<int>(prefix.size()));
    model.infer(prefix, state, {logits.data(), 1, spec.vocabulary, spec.vocabulary}, true);
    return logits;
  }
  auto score(std::span<const int> scored, int window, const LogitsSink& sink = {}) {
    return token_nll(model, scored, window, sink);
  }

  std::unique_ptr<Group> self_group = make_self_group();
  ModelSpec spec = test::tiny_spec("llama", true);
  Model model;
  const std::vector<int> ids = {3, 141, 59, 26, 53, 58, 97, 93, 238, 46, 264};
};

TEST_F(ScoreTest, EachIdIsScoredByTheIdsBeforeItInItsOwnWindow) {
  constexpr std::size_t kWindow = 4;  // of 11 ids: windows of 4, 4 and 3
  const auto actual = score(ids, kWindow);
  ASSERT_EQ(actual.size(), ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::size_t begin = i / kWindow * kWindow;
    ASSERT_EQ(actual[i].has_value(), i != begin) << i;
    if (i == begin) continue;
    EXPECT_NEAR(*actual[i], nll(last_logits(std::span(ids).subspan(begin, i - begin)), ids[i]), kTolerance) << i;
  }
}

TEST_F(ScoreTest, AWindowAsLongAsTheTextLeavesOneIdUnscored) {
  const auto actual = score(ids, 1000000);
  EXPECT_FALSE(actual[0].has_value());
  for (std::size_t i = 1; i < ids.size(); ++i) EXPECT_TRUE(actual[i].has_value()) << i;
}

TEST_F(ScoreTest, OneRowOfLogitsAnIdEachAfterThatId) {
  std::vector<std::vector<float>> rows;
  const auto actual = score(ids, 4, [&](std::span<const float> row) { rows.emplace_back(row.begin(), row.end()); });
  ASSERT_EQ(rows.size(), ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    ASSERT_EQ(rows[i].size(), 290u);
    if (i + 1 == ids.size() || !actual[i + 1]) continue;
    EXPECT_NEAR(*actual[i + 1], nll(rows[i], ids[i + 1]), kTolerance) << i;
  }
  const std::vector<float> direct = last_logits(std::span(ids).subspan(8, 3));
  for (std::size_t v = 0; v < direct.size(); ++v) ASSERT_NEAR(rows[10][v], direct[v], 1e-4) << v;
}

TEST_F(ScoreTest, ALongWindowIsReadInPiecesAndScoredAsOne) {
  const Random random(1, stream_of("test/ids"));
  std::vector<int> long_ids;
  for (std::uint64_t i = 0; i < 1100; ++i)
    long_ids.push_back(static_cast<int>(random.uniform_int(290, i)));  // pieces of 512 and 76 rows
  const auto actual = score(long_ids, 1100);
  for (const std::size_t i : {511u, 512u, 513u, 1023u, 1024u, 1099u})
    EXPECT_NEAR(*actual[i], nll(last_logits(std::span(long_ids).first(i)), long_ids[i]), 2e-5) << i;
}

TEST_F(ScoreTest, MeanAndBitsPerByteAreOverScoredIdsAndTheirBytes) {
  const Tokenizer tokenizer = test::tiny_tokenizer(290);
  std::vector<int> text = tokenizer.encode("the ing");  // "the", " ", "ing"; or as the merges have it
  ASSERT_GE(text.size(), 2u);
  std::vector<std::optional<float>> token_nlls(text.size(), 2.0f);
  token_nlls[0].reset();
  const std::size_t bytes = tokenizer.decode(std::span(text).subspan(1)).size();
  const Score actual = make_score(tokenizer, text, token_nlls);
  EXPECT_EQ(actual.scored_tokens, std::ssize(text) - 1);
  EXPECT_EQ(actual.scored_bytes, static_cast<std::int64_t>(bytes));
  EXPECT_DOUBLE_EQ(actual.mean_loss(), 2.0);
  EXPECT_DOUBLE_EQ(actual.bits_per_byte(),
                   2.0 * static_cast<double>(text.size() - 1) / std::numbers::ln2 / static_cast<double>(bytes));
}

TEST_F(ScoreTest, ALossThatIsNotFiniteEndsTheScore) {
  for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    test::RandomWeights weights(spec, /*seed=*/9);
    weights.at("blk.1.ffn_up.weight")[97] = bad;
    model.parameters().load(weights);
    model.update_compute_copy();
    expect_error(Fault::kNumeric, "the loss of token 1 of the text is", [&] { score(ids, 64); });
  }
}

TEST_F(ScoreTest, WhatCannotBeScoredIsRefused) {
  expect_error(Fault::kConfig, "at least 2", [&] { score(ids, 1); });
  expect_error(Fault::kData, "at least 2", [] { make_score(test::tiny_tokenizer(290), {1}, {std::nullopt}); });
}

}  // namespace
}  // namespace slipway
