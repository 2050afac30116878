// ModelSpec: patterns of blocks, RoPE divisors, and refused contradictions.
#include "io/model/model_spec.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "io/model/model_family.hpp"
#include "tests/support/core_files.hpp"
#include "tests/support/random_model.hpp"

namespace slipway {
namespace {

using test::tiny_spec;

/// A letter for each layer: what follows its attention.
std::string kind_letters(const std::string& pattern, int layers,
                         FeedForwardKind default_kind = FeedForwardKind::kSwiglu) {
  std::string result;
  for (const BlockKind& kind : parse_blocks(pattern, layers, default_kind, Fault::kConfig))
    result += kind.feed_forward == FeedForwardKind::kGelu ? 'g' : 's';
  return result;
}

TEST(ModelSpecTest, APatternRepeatsUntilAllLayersAreFilled) {
  EXPECT_EQ(kind_letters("attention+swiglu", 3), "sss");
  EXPECT_EQ(kind_letters("attention+swiglu,attention+gelu", 5), "sgsgs");
  EXPECT_EQ(kind_letters("attention+gelu*2,attention+swiglu", 7), "ggsggsg");
  EXPECT_EQ(kind_letters(" attention + gelu * 2 , attention+swiglu*1 ", 4), "ggsg");
  EXPECT_EQ(kind_letters("attention+gelu*100", 2), "gg");
  EXPECT_EQ(kind_letters("attention,attention+gelu", 2), "sg");
  EXPECT_EQ(kind_letters("attention,attention+swiglu", 2, FeedForwardKind::kGelu), "gs");
}

TEST(ModelSpecTest, AWrongPieceOfAPatternIsQuotedWithWhatThereIs) {
  const auto expect_refused = [](const std::string& pattern, const std::string& substring) {
    expect_error(Fault::kConfig, substring, [&] { kind_letters(pattern, 4); });
  };
  expect_refused("attention+relu",
                 "model.blocks has 'attention+relu', whose feed-forward layer is unknown; expected attention");
  expect_refused("attention+swiglu,mamba*2", "model.blocks has 'mamba*2', whose mixer is unknown");
  for (const char* count : {"attention*", "attention*0", "attention*-1", "attention*2x", "attention*99999999999"})
    expect_refused(count, "whose count is no number of layers");
  expect_refused("", "model.blocks is empty");
  expect_refused(",attention", "model.blocks has ''");
  ModelSpec model = tiny_spec("llama", true);
  model.blocks = "attention+gelu*";
  expect_error(Fault::kStorage, "attention+gelu*", [&] { model.check("m", Fault::kStorage); });
}

TEST(ModelSpecTest, TwoWaysOfWritingTheSameBlocksAreNoDifference) {
  const ModelSpec model = tiny_spec("gpt2", true);
  ModelSpec other = model;
  other.blocks = "attention";
  EXPECT_EQ(describe_difference(model, other), "");
  other.blocks = "attention+gelu,attention+swiglu";
  EXPECT_EQ(describe_difference(model, other),
            "model.blocks is attention+gelu here and attention+gelu,attention+swiglu there");
}

TEST(ModelSpecTest, LinearScalingDividesEveryFrequencyAlike) {
  ModelSpec model = tiny_spec("llama", true);
  EXPECT_TRUE(model.rope_freq_factors().empty());
  model.rope_scaling = "linear", model.rope_factor = 2.5;
  EXPECT_EQ(model.rope_freq_factors(), std::vector<float>(8, 2.5f));
}

TEST(ModelSpecTest, DivisorsOfLlama3AreTheFormulas) {
  const ModelSpec model{.head_width = 128,
                        .rope_scaling = "llama3",
                        .rope_base = 500000,
                        .rope_factor = 8,
                        .rope_low = 1,
                        .rope_high = 4,
                        .rope_original_context = 8192};
  constexpr double kTolerance = 1e-6;  // rounding to f32
  const std::vector<float> divisors = model.rope_freq_factors();
  ASSERT_EQ(divisors.size(), 64u);
  for (int j = 0; j < 64; ++j) {  // as transformers' modeling_rope_utils.py has it
    const double frequency = 1 / std::pow(500000.0, 2.0 * j / 128), wavelength = 2 * std::numbers::pi / frequency;
    double scaled = frequency;
    if (wavelength > 8192 / 1.0) scaled = frequency / 8;
    else if (wavelength >= 8192 / 4.0) {
      const double smooth = (8192 / wavelength - 1) / (4 - 1);
      scaled = (1 - smooth) * frequency / 8 + smooth * frequency;
    }
    EXPECT_NEAR(divisors[static_cast<std::size_t>(j)], frequency / scaled, 8 * kTolerance) << j;
  }
  // What transformers 5.24.0 computes where frequencies are smoothed, in f32.
  const double kSmoothed[] = {1.0, 1.2074839, 1.5534145, 2.0263131, 2.6945304, 3.6842537, 5.2573272, 8.0};
  for (std::size_t i = 0; i < std::size(kSmoothed); ++i)
    EXPECT_NEAR(divisors[28 + i], kSmoothed[i], kSmoothed[i] * kTolerance) << 28 + i;
}

TEST(ModelSpecTest, WhatContradictsItselfIsRefusedByName) {
  const auto expect_refused = [](const char* architecture, const std::string& substring, auto modify) {
    ModelSpec model = tiny_spec(architecture, true);
    EXPECT_NO_THROW(model.check("m", Fault::kConfig));
    modify(model);
    expect_error(Fault::kConfig, substring, [&] { model.check("m", Fault::kConfig); });
  };
  expect_refused("llama", "the RoPE scaling is 'yarn', expected none, linear or llama3",
                 [](ModelSpec& m) { m.rope_scaling = "yarn"; });
  expect_refused("llama", "the RoPE factor is 0.5",
                 [](ModelSpec& m) { m.rope_scaling = "linear", m.rope_factor = 0.5; });
  expect_refused("llama", "the RoPE factor is 1", [](ModelSpec& m) { m.rope_scaling = "linear"; });
  expect_refused("llama", "the RoPE factor is 4", [](ModelSpec& m) { m.rope_factor = 4; });
  expect_refused("llama", "expected rising positive factors",
                 [](ModelSpec& m) { m.rope_scaling = "llama3", m.rope_factor = 8, m.rope_low = m.rope_high; });
  expect_refused("gpt2", "learned positions and no RoPE",
                 [](ModelSpec& m) { m.rope_scaling = "linear", m.rope_factor = 2; });
  expect_refused("gpt2", "gpt2 has 6 heads and 2 key-value heads", [](ModelSpec& m) { m.kv_heads = 2; });
  expect_refused("gpt2", "gpt2 has no key for a head width of 15", [](ModelSpec& m) { m.head_width = 15; });
  expect_refused("qwen2", "qwen2 has no key for a head width of 32", [](ModelSpec& m) { m.head_width = 32; });
  ModelSpec odd_head = tiny_spec("gpt2", true);
  odd_head.width = 90, odd_head.head_width = 15;
  EXPECT_NO_THROW(odd_head.check("m", Fault::kConfig)) << "nothing turns pairs";
}

TEST(ModelFamilyTest, ARowSaysWhatItsFilesHave) {
  for (const ModelFamily& family : model_families()) {
    const std::string& architecture = family.defaults.architecture;
    EXPECT_EQ(&family_of(family.defaults), &family);
    EXPECT_TRUE(family.has_biases_of(family.defaults)) << architecture << ": its own class has them";
    ModelSpec other = family.defaults;
    other.qkv_bias = !other.qkv_bias;
    EXPECT_FALSE(family.has_biases_of(other)) << architecture;
    other.output_bias = !other.output_bias;
    EXPECT_EQ(family.has_biases_of(other), architecture == "llama" || architecture == "qwen3") << "all or none";
    EXPECT_EQ(family.names->config_key("head_dim").empty(), architecture == "gpt2");
    EXPECT_EQ(family.names->config_key("vocab_size"), "vocab_size");
  }
  EXPECT_EQ(family_of(tiny_spec("gpt2", true)).names->config_key("hidden_size"), "n_embd");
  EXPECT_THROW(family_of({.architecture = "mamba"}), Error);
}

}  // namespace
}  // namespace slipway
