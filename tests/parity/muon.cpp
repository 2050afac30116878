// Muon against double precision: the iteration itself, and whole optimizer steps on one rank.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/backend/cpu_backend.hpp"
#include "src/core/random.hpp"
#include "src/model/layers/block.hpp"
#include "src/optim/optimizer.hpp"
#include "tests/support/kernels_oracle.hpp"

namespace slipway {
namespace {

using oracle::F64Vector;

/// The iteration as its docstring states it, in f64. Always with G = X X^T: the other side gives the same in exact
/// numbers.
F64Vector newton_schulz(F64Vector x, int R, int C) {
  constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
  double squares = 0;
  for (const double value : x) squares += value * value;
  for (double& value : x) value /= std::sqrt(squares);
  const F64Vector zero(static_cast<std::size_t>(R) * static_cast<std::size_t>(R));
  for (int step = 0; step < 5; ++step) {
    const F64Vector gram = oracle::matmul(x, x, R, R, C, false, true, zero);
    F64Vector polynomial = oracle::matmul(gram, gram, R, R, R, false, false, zero);
    for (std::size_t i = 0; i < gram.size(); ++i) polynomial[i] = kB * gram[i] + kC * polynomial[i];
    F64Vector next = x;
    for (double& value : next) value *= kA;
    x = oracle::matmul(polynomial, x, R, C, R, false, false, next);
  }
  return x;
}

Buffer<float> normal(int rows, int cols, std::uint64_t seed) {
  Buffer<float> x(static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols));
  const Random random(seed, stream_of("matrix"));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = random.normal(i);
  return x;
}

F64Vector to_f64(std::span<const float> x) { return {x.begin(), x.end()}; }

/// Root mean square of a - b over that of b.
double distance(std::span<const float> a, const F64Vector& b) {
  double squared_error = 0, size = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    squared_error += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(squared_error / size);
}

struct Case {
  const Backend* backend;
  DType compute_dtype;
};

class MuonTest : public testing::TestWithParam<Case> {
 protected:
  // f32: a rounding of the least singular values grows by the iteration's slope at 0, 3.4445^5 = 485, and there are few
  // of them: 485 x 2^-24. bf16: G and G G are rounded by 2^-9, and come with factors that sum to 7: 1.4 % a step, of
  // which the last three count.
  double tolerance() const { return GetParam().compute_dtype == DType::kF32 ? 3e-5 : 4.5e-2; }
};

TEST_P(MuonTest, TheIterationMatchesDoublePrecisionWhateverTheShape) {
  NewtonSchulz orthogonalizer(*GetParam().backend, GetParam().compute_dtype);
  for (const auto& [R, C] : {std::pair{1, 1}, {1, 9}, {64, 48}, {17, 5}, {5, 17}, {33, 80}, {80, 33}, {40, 40}}) {
    Buffer<float> x = normal(R, C, 5);
    const F64Vector expected = newton_schulz(to_f64(x.span()), R, C);
    orthogonalizer.apply(x.matrix(R, C));
    EXPECT_LT(distance(x.span(), expected), tolerance()) << R << " x " << C;
  }
}

/// Columns that are orthogonal to each other and of length 1, by Gram and Schmidt.
std::vector<F64Vector> orthonormal(int columns, int length, std::uint64_t seed) {
  std::vector<F64Vector> basis;
  for (int i = 0; i < columns; ++i) {
    F64Vector x = to_f64(normal(1, length, seed + static_cast<std::uint64_t>(i)).span());
    double size = 0;
    for (int pass = 0; pass < 2; ++pass)
      for (const F64Vector& other : basis) {
        double dot = 0;
        for (std::size_t k = 0; k < x.size(); ++k) dot += x[k] * other[k];
        for (std::size_t k = 0; k < x.size(); ++k) x[k] -= dot * other[k];
      }
    for (const double value : x) size += value * value;
    for (double& value : x) value /= std::sqrt(size);
    basis.push_back(x);
  }
  return basis;
}

TEST_P(MuonTest, SingularValuesEndNear1AndSingularVectorsStay) {
  constexpr int kRank = 24, kLongSide = 40;
  const std::vector<F64Vector> u = orthonormal(kRank, kRank, 100), v = orthonormal(kRank, kLongSide, 200);
  for (const bool tall : {false, true}) {
    const int R = tall ? kLongSide : kRank, C = tall ? kRank : kLongSide;
    Buffer<float> x(static_cast<std::size_t>(R) * static_cast<std::size_t>(C));
    const auto at = [&](int i, int j) { return static_cast<std::size_t>(tall ? j * C + i : i * C + j); };
    for (int i = 0; i < kRank; ++i)
      for (int j = 0; j < kLongSide; ++j) {
        double sum = 0;
        for (int s = 0; s < kRank; ++s)  // singular values from 30 down to 0.3, where the norm is 72
          sum += 30 * std::pow(0.01, s / (kRank - 1.0)) * u[static_cast<std::size_t>(s)][static_cast<std::size_t>(i)] *
                 v[static_cast<std::size_t>(s)][static_cast<std::size_t>(j)];
        x[at(i, j)] = static_cast<float>(sum);
      }
    NewtonSchulz(*GetParam().backend, GetParam().compute_dtype).apply(x.matrix(R, C));
    constexpr double kMin = 0.65, kMax = 1.25, kMixed = 0.05;  // docs of NewtonSchulz, with room for bf16
    for (int s = 0; s < kRank; ++s)
      for (int t = 0; t < kRank; ++t) {
        double projected = 0;
        for (int i = 0; i < kRank; ++i)
          for (int j = 0; j < kLongSide; ++j)
            projected += u[static_cast<std::size_t>(s)][static_cast<std::size_t>(i)] * x[at(i, j)] *
                         v[static_cast<std::size_t>(t)][static_cast<std::size_t>(j)];
        if (s != t) {
          EXPECT_NEAR(projected, 0, kMixed) << s << " " << t;
        } else {
          EXPECT_GT(projected, kMin) << "singular value " << s;
          EXPECT_LT(projected, kMax) << "singular value " << s;
        }
      }
  }
}

TEST_P(MuonTest, ZerosStayAndSizeDoesNotMatter) {
  NewtonSchulz orthogonalizer(*GetParam().backend, GetParam().compute_dtype);
  Buffer<float> zeros(12);
  orthogonalizer.apply(zeros.matrix(3, 4));
  for (const float value : zeros.span()) EXPECT_EQ(value, 0.0f);

  Buffer<float> small = normal(6, 8, 3), large = normal(6, 8, 3);
  for (std::size_t i = 0; i < small.size(); ++i) small[i] *= 0x1p-60f, large[i] *= 0x1p60f;  // exactly
  orthogonalizer.apply(small.matrix(6, 8));
  orthogonalizer.apply(large.matrix(6, 8));
  for (std::size_t i = 0; i < small.size(); ++i) EXPECT_EQ(small[i], large[i]) << i;
}

TEST_P(MuonTest, StepsMatchDoublePrecisionAndLeaveTheRestToAdamW) {
  constexpr int kSteps = 3;
  constexpr double kLr = 0.01, kMomentum = 0.95, kDecay = 0.1, kClip = 0.5;
  std::unique_ptr<Group> world_group = make_self_group();
  Mesh mesh = make_thread_mesh(*world_group, 1);
  const ModelSpec model{.architecture = "llama",
                        .layers = 1,
                        .width = 12,
                        .heads = 2,
                        .kv_heads = 2,
                        .head_width = 6,
                        .ffn = 20,
                        .vocabulary = 30,
                        .context = 8};
  const TensorParallelShard tensor_shard = TensorParallelShard::of(model, 0, 1);
  Parameters parameters;
  const Block block(model, BlockKind{}, tensor_shard, 0, parameters, {});
  parameters.add({.name = "token_embd.weight",
                  .component = "embedding",
                  .rows = 30,
                  .cols = 12,
                  .shard = ShardAxis::kRows,
                  .count = 30,
                  .local_rows = 30,
                  .local_cols = 12,
                  .group = kMatrices,
                  .init_std = 0.5f});
  parameters.allocate(1, GetParam().compute_dtype);
  parameters.initialize(1);
  const float clip = kClip;
  const OptimConfig muon{.name = "Muon", .momentum = kMomentum, .weight_decay = kDecay}, adamw{.weight_decay = kDecay};
  const ArenaShards shards(parameters, 1);
  Optimizer optimizer(muon, parameters, *GetParam().backend, mesh, shards, *GetParam().backend->memory);
  for (const OptimizerShard& shard : optimizer.shards())  // so that a GPU reads them in whole words, as it does weights
    for (const OptimizerShard::Moment& moment : shard.moments)
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(moment.values.data()) % 64, 0u) << shard.slice.parameter->name;

  const F64Vector first = to_f64(parameters.values());
  F64Vector expected = first, sums(first.size()), second(first.size());
  for (int step = 0; step < kSteps; ++step) {
    Buffer<float> g = normal(1, static_cast<int>(first.size()), 50 + static_cast<std::uint64_t>(step));
    const F64Vector gradient = to_f64(g.span());
    optimizer.step(g.span(), step, kLr, &clip);
    optimizer.all_gather_weights();
    for (const Parameter& p : parameters.all()) {
      const std::size_t size = p.local_size();
      if (is_hidden_matrix(p)) {
        F64Vector look_ahead(size);
        for (std::size_t i = 0; i < size; ++i) {
          double& sum = sums[p.offset + i];
          sum = kMomentum * sum + kClip * gradient[p.offset + i];
          look_ahead[i] = kClip * gradient[p.offset + i] + kMomentum * sum;
        }
        const F64Vector direction = newton_schulz(look_ahead, p.rows, p.cols);
        const double scale = kLr * 0.2 * std::sqrt(std::max(p.rows, p.cols));
        for (std::size_t i = 0; i < size; ++i) {
          double& w = expected[p.offset + i];
          w -= kLr * kDecay * w + scale * direction[i];
        }
        continue;
      }
      for (std::size_t i = p.offset; i < p.offset + size; ++i) {
        const double grad = kClip * gradient[i], t = step + 1;
        sums[i] = 0.9 * sums[i] + 0.1 * grad;
        second[i] = 0.95 * second[i] + 0.05 * grad * grad;
        expected[i] -=
            kLr * (sums[i] / (1 - std::pow(0.9, t)) / (std::sqrt(second[i] / (1 - std::pow(0.95, t))) + 1e-8) +
                   (p.group.use_weight_decay ? kDecay * expected[i] : 0));
      }
    }
  }
  for (const Parameter& p : parameters.all()) {
    F64Vector expected_change(p.local_size());
    std::vector<float> actual_change(p.local_size());
    for (std::size_t i = 0; i < expected_change.size(); ++i) {
      expected_change[i] = expected[p.offset + i] - first[p.offset + i];
      actual_change[i] = static_cast<float>(parameters.values()[p.offset + i] - first[p.offset + i]);
    }
    EXPECT_LT(distance(actual_change, expected_change), tolerance()) << p.name;
  }
  for (const OptimizerShard& shard : optimizer.shards()) {
    const bool hidden = is_hidden_matrix(*shard.slice.parameter);
    ASSERT_EQ(shard.moments.size(), hidden ? 1U : 2U) << shard.slice.parameter->name;
    EXPECT_STREQ(shard.moments[0].kind, hidden ? "muon_m" : "adam_m");
  }
}

std::vector<Case> cases() {
  std::vector<Case> cases;
  for (const Backend* backend : all_backends())
    for (const DType compute_dtype : {DType::kF32, DType::kBf16}) cases.push_back({backend, compute_dtype});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Backends, MuonTest, testing::ValuesIn(cases()), [](const auto& tested) {
  return join(tested.param.backend->instructions, "_", tested.param.backend->gemm_library, "_",
              name(tested.param.compute_dtype));
});

}  // namespace
}  // namespace slipway
