// Loss weights that are no whole numbers: the loss and its gradients against f64 loops.
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "kernels/backend/cpu_backend.hpp"
#include "src/core/random.hpp"
#include "src/data/batch.hpp"
#include "src/model/model.hpp"

namespace slipway {
namespace {

constexpr int kWidth = 12, kVocabulary = 29, kSequences = 2, kTokens = 7;
constexpr double kEps = 1e-5;

using F64Vector = std::vector<double>;

/// Blocks whose weights are all zero add nothing, so that only the embedding, the last norm and the head compute.
ModelSpec spec() {
  ModelSpec model{.architecture = "llama", .layers = 1, .width = kWidth, .heads = 2, .kv_heads = 2, .head_width = 6};
  model.ffn = 8, model.vocabulary = kVocabulary, model.context = 16, model.norm_eps = kEps, model.tied = false;
  return model;
}

/// Random ids and targets; a third of the loss weights are 0, the others in (0, 1.25].
Batch weighted_batch(std::uint64_t seed) {
  Batch batch;
  synthetic_batch(kSequences, kTokens, batch);
  const Random random(seed, /*stream=*/1);
  for (std::size_t r = 0; r < batch.ids.size(); ++r) {
    batch.ids[r] = static_cast<int>(random.uniform_int(kVocabulary, 3 * r));
    batch.targets[r] = static_cast<int>(random.uniform_int(kVocabulary, 3 * r + 1));
    batch.weights[r] = r % 3 == 1 ? 0.0f : 0.3f + 0.95f * static_cast<float>(random.uniform(3 * r + 2));
  }
  return batch;
}

/// `sum w loss_sum / sum w` over batches, and its gradients, one target at a time.
struct Oracle {
  F64Vector embedding, gain, head;
  F64Vector d_embedding = F64Vector(embedding.size()), d_gain = F64Vector(gain.size()), d_head = F64Vector(head.size());
  double loss = 0;

  void add(const Batch& batch, double weight_sum) {
    for (std::size_t r = 0; r < batch.ids.size(); ++r)
      add_target(static_cast<std::size_t>(batch.ids[r]), static_cast<std::size_t>(batch.targets[r]),
                 static_cast<double>(batch.weights[r]) / weight_sum);
  }

  void add_target(std::size_t id, std::size_t target, double scale) {
    const double* const x = &embedding[id * kWidth];
    double squares = 0;
    for (int d = 0; d < kWidth; ++d) squares += x[d] * x[d];
    const double inv_rms = 1 / std::sqrt(squares / kWidth + kEps);
    F64Vector logits(kVocabulary), dhidden(kWidth);
    double sum = 0;
    for (std::size_t v = 0; v < kVocabulary; ++v) {
      for (std::size_t d = 0; d < kWidth; ++d) logits[v] += x[d] * inv_rms * gain[d] * head[v * kWidth + d];
      sum += std::exp(logits[v]);
    }
    loss += scale * (std::log(sum) - logits[target]);
    for (std::size_t v = 0; v < kVocabulary; ++v) {
      const double dlogit = scale * (std::exp(logits[v]) / sum - (v == target ? 1 : 0));
      for (std::size_t d = 0; d < kWidth; ++d) {
        d_head[v * kWidth + d] += dlogit * x[d] * inv_rms * gain[d];
        dhidden[d] += dlogit * head[v * kWidth + d];
      }
    }
    double projection = 0;  // the part of the gradient that the normalization removes
    for (std::size_t d = 0; d < kWidth; ++d) projection += dhidden[d] * gain[d] * x[d];
    for (std::size_t d = 0; d < kWidth; ++d) {
      d_gain[d] += dhidden[d] * x[d] * inv_rms;
      d_embedding[id * kWidth + d] += inv_rms * (dhidden[d] * gain[d] - x[d] * projection * inv_rms * inv_rms / kWidth);
    }
  }
};

TEST(LossWeightsTest, FractionalOnesScaleLossAndGradientAsDoublePrecisionDoes) {
  // About twenty f32 roundings of terms below 1 in a row's logits and exponentials, and sums over 28 targets.
  constexpr double kTolerance = 3e-6;
  const std::array batches = {weighted_batch(1), weighted_batch(2), weighted_batch(3)};
  double weight_sum = 0;
  for (const Batch& batch : batches) weight_sum += batch.weight_sum();
  ASSERT_NE(weight_sum, std::round(weight_sum));
  for (const Backend* backend : all_backends()) {
    const std::unique_ptr<Group> self = make_self_group();
    Model model(spec(), *backend, *self, {.compute_dtype = DType::kF32});
    Parameters& parameters = model.parameters();
    parameters.initialize(5);
    for (const Parameter& p : parameters.all())
      if (p.name.starts_with("blk.")) std::ranges::fill(parameters.values().subspan(p.offset, p.local_size()), 0.0f);
    model.update_compute_copy();
    parameters.enable_gradients();
    const auto values = [&](const char* name) {
      const Matrix<float> m = parameters.value(parameters.find(name));
      return F64Vector(m.data, m.data + m.size());
    };
    Oracle oracle{.embedding = values("token_embd.weight"),
                  .gain = values("output_norm.weight"),
                  .head = values("output.weight")};
    double loss = 0;
    for (const Batch& batch : batches) {  // micro-batches of one step
      double loss_sum = 0;
      model.forward(batch, static_cast<float>(1 / loss_denominator(weight_sum)), &loss_sum);
      model.backward();
      loss += loss_sum;
      oracle.add(batch, weight_sum);
    }
    EXPECT_NEAR(loss / loss_denominator(weight_sum), oracle.loss, kTolerance);
    const auto compare = [&](const char* name, const F64Vector& expected) {
      const Matrix<float> actual = parameters.gradient(parameters.find(name));
      for (std::size_t i = 0; i < expected.size(); ++i)
        ASSERT_NEAR(actual.data[i], expected[i], kTolerance) << name << " element " << i << " of " << expected.size();
    };
    compare("token_embd.weight", oracle.d_embedding);
    compare("output_norm.weight", oracle.d_gain);
    compare("output.weight", oracle.d_head);
  }
}

}  // namespace
}  // namespace slipway
