// Decoding: the same tokens give the same logits for any cache, batch or chunk of the prompt.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "kernels/backend/cpu_backend.hpp"
#include "src/core/random.hpp"
#include "src/infer/score.hpp"
#include "src/infer/session.hpp"
#include "tests/support/random_model.hpp"

namespace slipway {
namespace {

// Of a row's largest logit. Sums have up to 160 terms in another order: some 2^-24 * sqrt(160) = 8e-7 each, and about
// ten of them follow one another through two layers.
constexpr double kTolerance = 2e-5;

std::vector<int> random_ids(int count, int vocabulary, std::uint64_t seed) {
  const Random random(seed, stream_of("test/ids"));
  std::vector<int> ids;
  for (int i = 0; i < count; ++i)
    ids.push_back(
        static_cast<int>(random.uniform_int(static_cast<std::uint64_t>(vocabulary), static_cast<std::uint64_t>(i))));
  return ids;
}

/// A tiny model of a family, or a llama with two kinds of blocks.
ModelSpec spec_named(const std::string& name) {
  ModelSpec spec = test::tiny_spec(name == "mixed" ? "llama" : name, name != "qwen3");
  if (name == "mixed") spec.blocks = "attention+gelu,attention+swiglu";
  return spec;
}

class InferTest : public testing::TestWithParam<std::string> {
 protected:
  InferTest() : spec(spec_named(GetParam())), model(spec, cpu_backend(), *self, {}) {
    model.parameters().load(test::RandomWeights(spec, /*seed=*/5));
    model.update_compute_copy();
  }
  int vocabulary_size() const { return spec.vocabulary; }

  /// Logits after each id, from one pass without history. [T][V]
  std::vector<std::vector<float>> full_logits(std::span<const int> ids) {
    const int T = static_cast<int>(ids.size()), V = vocabulary_size();
    Buffer<float> logits(ids.size() * static_cast<std::size_t>(V));
    InferenceState state = model.make_state(1, T);
    model.infer(ids, state, logits.matrix(T, V), false);
    std::vector<std::vector<float>> rows;
    for (int t = 0; t < T; ++t) rows.emplace_back(logits.matrix(T, V).row(t), logits.matrix(T, V).row(t) + V);
    return rows;
  }
  void expect_near(std::span<const float> actual, std::span<const float> expected, const std::string& context) {
    ASSERT_EQ(actual.size(), expected.size());
    float largest = 0;
    for (const float logit : expected) largest = std::max(largest, std::abs(logit));
    for (std::size_t v = 0; v < actual.size(); ++v)
      ASSERT_NEAR(actual[v], expected[v], kTolerance * static_cast<double>(largest))
          << GetParam() << ", " << context << ", logit " << v;
  }

  std::unique_ptr<Group> self = make_self_group();
  ModelSpec spec;
  Model model;
};

TEST_P(InferTest, TokenByTokenEqualsOnePass) {
  const std::vector<int> ids = random_ids(37, vocabulary_size(), 1);
  const auto expected = full_logits(ids);
  Session session(model, 1, 37);
  for (std::size_t t = 0; t < ids.size(); ++t) {
    session.decode(std::span(&ids[t], 1));
    expect_near(session.logits(), expected[t], join("token ", t));
  }
}

TEST_P(InferTest, TheWholePassEqualsTheTrainingLoss) {
  const std::vector<int> ids = random_ids(33, vocabulary_size(), 2);
  const auto nll = token_nll(model, ids, 33);
  Batch batch{.sequences = 1, .tokens_per_sequence = 32};
  batch.ids.assign(ids.begin(), ids.end() - 1);
  batch.targets.assign(ids.begin() + 1, ids.end());
  batch.weights.assign(32, 1.0f);
  batch.key_start.assign(32, 0);
  for (int t = 0; t < 32; ++t) batch.positions.push_back(t);
  double loss = 0;
  model.loss(batch, &loss);
  for (std::size_t t = 0; t < 32; ++t) ASSERT_NEAR(*nll[t + 1], model.token_losses()[t], 2e-5) << t;
}

TEST_P(InferTest, AnyCutOfThePromptGivesTheSameLogits) {
  const std::vector<int> ids = random_ids(41, vocabulary_size(), 3);
  const std::span<const int> all(ids);
  const auto expected = full_logits(ids).back();
  for (const std::size_t cut : {1u, 7u, 16u, 40u}) {
    Session session(model, 1, 41);
    session.decode(all.first(cut));
    session.decode(all.subspan(cut));
    expect_near(session.logits(), expected, join("cut at ", cut));
  }
}

TEST_P(InferTest, AnUnusedRestOfTheStateChangesNothing) {
  const std::vector<int> ids = random_ids(19, vocabulary_size(), 4);
  const auto expected = full_logits(ids).back();
  Session session(model, 1, 128);
  session.decode(ids);
  expect_near(session.logits(), expected, "capacity 128");
}

TEST_P(InferTest, FourSequencesAtOnceEqualEachAlone) {
  constexpr int kSequences = 4, kPrompt = 23, kMore = 6;
  std::vector<std::vector<int>> ids;
  std::vector<int> prompts;
  for (int b = 0; b < kSequences; ++b) {
    ids.push_back(random_ids(kPrompt + kMore, vocabulary_size(), 10 + static_cast<std::uint64_t>(b)));
    prompts.insert(prompts.end(), ids.back().begin(), ids.back().begin() + kPrompt);
  }
  Session batched(model, kSequences, kPrompt + kMore);
  batched.decode(prompts);
  for (std::size_t t = kPrompt; t <= kPrompt + kMore; ++t) {
    for (std::size_t b = 0; b < kSequences; ++b)
      expect_near(batched.logits(static_cast<int>(b)), full_logits(std::span(ids[b]).first(t)).back(),
                  join("sequence ", b, " after ", t));
    if (t == kPrompt + kMore) break;
    std::vector<int> next;
    for (const auto& sequence : ids) next.push_back(sequence[t]);
    batched.decode(next);
  }
}

TEST_P(InferTest, AForkGoesItsOwnWay) {
  const std::vector<int> prompt = random_ids(11, vocabulary_size(), 20), a = random_ids(5, vocabulary_size(), 21),
                         b = random_ids(5, vocabulary_size(), 22);
  Session session(model, 1, 16);
  session.decode(prompt);
  Session fork = session.fork();
  expect_near(fork.logits(), session.logits(), "before either reads on");
  for (std::size_t t = 0; t < a.size(); ++t) {  // in turns, so that shared memory would show
    session.decode(std::span(&a[t], 1));
    fork.decode(std::span(&b[t], 1));
  }
  std::vector<int> with_a = prompt, with_b = prompt;
  with_a.insert(with_a.end(), a.begin(), a.end());
  with_b.insert(with_b.end(), b.begin(), b.end());
  expect_near(session.logits(), full_logits(with_a).back(), "the original");
  expect_near(fork.logits(), full_logits(with_b).back(), "the fork");
}

TEST_P(InferTest, RewindForgetsWhatCameAfter) {
  const std::vector<int> ids = random_ids(20, vocabulary_size(), 30), other = random_ids(8, vocabulary_size(), 31);
  Session session(model, 1, 20);
  session.decode(ids);
  session.rewind(12);
  session.decode(other);
  std::vector<int> expected(ids.begin(), ids.begin() + 12);
  expected.insert(expected.end(), other.begin(), other.end());
  expect_near(session.logits(), full_logits(expected).back(), "after rewind");
  EXPECT_EQ(session.length(), 20);
  EXPECT_EQ(session.remaining_capacity(), 0);
}

/// Token b * kMore + t of `ids`, for every sequence b.
std::vector<int> column(std::span<const int> ids, int sequences, std::size_t t) {
  std::vector<int> next;
  const std::size_t tokens = ids.size() / static_cast<std::size_t>(sequences);
  for (std::size_t b = 0; b < static_cast<std::size_t>(sequences); ++b) next.push_back(ids[b * tokens + t]);
  return next;
}

TEST_P(InferTest, ASavedSessionGoesOnWithTheSameBits) {
  constexpr int kPrompt = 9, kMore = 4;
  for (const DType compute_dtype : {DType::kF32, DType::kBf16}) {
    Model fresh_model(spec, cpu_backend(), *self, {.compute_dtype = compute_dtype});
    fresh_model.parameters().load(test::RandomWeights(spec, /*seed=*/5));
    fresh_model.update_compute_copy();
    for (const int sequences : {1, 3}) {
      Session session(fresh_model, sequences, kPrompt + kMore);
      session.decode(random_ids(sequences * kPrompt, vocabulary_size(), 50));
      Session fork = session.fork();
      const std::string bytes = session.save();
      EXPECT_EQ(fork.save(), bytes) << "a fork has the same state";
      Session restored(fresh_model, sequences, kPrompt + 2 * kMore);  // with a larger cache, and another history
      restored.decode(random_ids(sequences * 3, vocabulary_size(), 51));
      restored.restore(bytes);
      EXPECT_EQ(restored.length(), kPrompt);
      EXPECT_EQ(restored.remaining_capacity(), 2 * kMore);
      const std::vector<int> ids = random_ids(sequences * kMore, vocabulary_size(), 52);
      for (std::size_t t = 0;; ++t) {
        for (int b = 0; b < sequences; ++b)
          EXPECT_TRUE(std::ranges::equal(restored.logits(b), session.logits(b)))
              << GetParam() << ", " << name(compute_dtype) << ", sequence " << b << " of " << sequences << " after "
              << t;
        if (t == kMore) break;
        session.decode(column(ids, sequences, t));
        restored.decode(column(ids, sequences, t));
        fork.decode(column(ids, sequences, kMore - 1 - t));  // another text
      }
      EXPECT_EQ(restored.save(), session.save());
      fork.restore(bytes);
      EXPECT_EQ(fork.save(), bytes) << "what a fork read since is forgotten";
    }
  }
}

TEST_P(InferTest, DamagedAndForeignStatesAreRefused) {
  Session session(model, /*sequences=*/1, /*capacity=*/6);
  session.decode(random_ids(4, vocabulary_size(), 60));
  const std::string saved_bytes = session.save();
  const auto refusal = [&](Session& target, const std::string& bytes) -> std::string {
    const std::string before = target.save();
    try {
      target.restore(bytes);
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::kStorage);
      EXPECT_EQ(target.save(), before) << "a refused state changes nothing";
      return error.what();
    }
    return "";
  };
  const auto expect_refusal = [&](Session& target, const std::string& bytes, const std::string& substring) {
    EXPECT_NE(refusal(target, bytes).find(substring), std::string::npos) << refusal(target, bytes);
  };
  for (std::size_t size = 0; size < saved_bytes.size(); size += 97)
    expect_refusal(session, saved_bytes.substr(0, size), "cut off");
  expect_refusal(session, saved_bytes + "x", "damaged");
  for (std::size_t at = 0; at < saved_bytes.size(); at += 89) {
    std::string bad = saved_bytes;
    bad[at] = static_cast<char>(bad[at] ^ 4);
    EXPECT_NE(refusal(session, bad), "") << "byte " << at;
  }
  Session small(model, 1, 3), two(model, 2, 6);
  expect_refusal(small, saved_bytes, "has seen 4 tokens, but there is room for 3");
  expect_refusal(two, saved_bytes, "has 1 sequences, expected 2");
  ModelSpec deeper = spec;
  deeper.layers = 3;
  Model other(deeper, cpu_backend(), *self, {}), rounded(spec, cpu_backend(), *self, {.compute_dtype = DType::kBf16});
  Session in_other(other, 1, 6), in_bf16(rounded, 1, 6);
  expect_refusal(in_other, saved_bytes, "belongs to another model: model.layers is 3 here and 2 there");
  expect_refusal(in_bf16, saved_bytes,
                 join("has 4 x ", spec.kv_width(), " f32 in matrix 0, expected 4 x ", spec.kv_width(), " bf16"));
  InferenceState without_logits = model.make_state(1, 6);
  EXPECT_THROW(without_logits.restore(saved_bytes), Error) << "it has no logits";
  run_thread_group(2, [&](Group& tensor) {
    Model sharded_model(spec, cpu_backend(), tensor, {});
    Session in_half(sharded_model, 1, 6);
    expect_refusal(in_half, saved_bytes, join("is of tensor rank 0 of 1, expected rank ", tensor.rank(), " of 2"));
  });
}

/// Random weights whose matrices were rounded to q8_0, as a file that stores the blocks, or one that stores f32.
class Quantized : public TensorSource {
 public:
  Quantized(const ModelSpec& model, bool keep_blocks) : weights_(model, /*seed=*/5), keep_blocks_(keep_blocks) {}
  std::vector<TensorInfo> tensors() const override { return weights_.tensors(); }
  void read(const std::string& name, std::span<float> out) const override {
    weights_.read(name, out);
    if (is_matrix(name)) decode(TensorType::kQ8_0, encode_blocks(out), out);
  }
  TensorType stored_type(const std::string& name) const override {
    return keep_blocks_ && is_matrix(name) ? TensorType::kQ8_0 : TensorType::kF32;
  }
  void read_stored(const std::string& name, std::span<std::byte> out) const override {
    std::vector<float> values(out.size() / 34 * 32);
    weights_.read(name, values);
    std::ranges::copy(encode_blocks(values), out.begin());
  }

 private:
  bool is_matrix(const std::string& name) const {
    const auto all = weights_.tensors();
    const auto found = std::ranges::find(all, name, &TensorInfo::name);
    return found != all.end() && found->shape.size() == 2;
  }
  static std::vector<std::byte> encode_blocks(std::span<const float> values) {
    std::vector<std::byte> bytes(values.size() / 32 * 34);
    encode(TensorType::kQ8_0, values, bytes);
    return bytes;
  }
  test::RandomWeights weights_;
  bool keep_blocks_;
};

TEST_P(InferTest, BlocksOfQ8ComputeAsTheirValuesDoInAQuarterOfTheMemory) {
  const Quantized quantized_weights(spec, true), dequantized(spec, false);
  Model quantized_model(spec, cpu_backend(), *self, {.quantized_source = &quantized_weights}),
      f32_model(spec, cpu_backend(), *self, {});
  quantized_model.parameters().load(quantized_weights);
  f32_model.parameters().load(dequantized);
  std::size_t in_f32 = 0;
  for (const Parameter& p : quantized_model.parameters().all()) {
    EXPECT_EQ(p.quantized, !p.vector && p.name != "position_embd.weight") << p.name;
    if (!p.quantized) in_f32 += (p.local_size() + 15) / 16 * 16;
  }
  EXPECT_EQ(quantized_model.parameters().values().size(), in_f32) << "matrices take no room as f32";
  EXPECT_EQ(quantized_model.matmul_weight_bytes() * 32, f32_model.matmul_weight_bytes() * 9)
      << "36 bytes in place of 128";

  const std::vector<int> ids = random_ids(30, vocabulary_size(), 40);
  Session a(quantized_model, 1, 30), b(f32_model, 1, 30);
  for (const int count : {20, 1, 3, 6}) {  // a long piece, and few rows
    a.decode(std::span(ids).subspan(static_cast<std::size_t>(a.length()), static_cast<std::size_t>(count)));
    b.decode(std::span(ids).subspan(static_cast<std::size_t>(b.length()), static_cast<std::size_t>(count)));
    expect_near(a.logits(), b.logits(), join(count, " tokens at once"));
  }
}

INSTANTIATE_TEST_SUITE_P(Families, InferTest, testing::Values("llama", "qwen2", "qwen3", "gpt2", "mixed"),
                         [](const auto& family) { return family.param; });

}  // namespace
}  // namespace slipway
