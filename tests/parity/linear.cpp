// Linear layers with LoRA: against f64 loops and their numeric gradient, and in a model on tensor ranks.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <memory>

#include "kernels/backend/cpu_backend.hpp"
#include "src/model/model.hpp"
#include "tests/support/parameter_shard.hpp"
#include "tests/support/random_model.hpp"

namespace slipway {
namespace {

using F64Vector = std::vector<double>;
using test::local_shard, test::relative_error;

// Axes: R rows, I inputs, O outputs, K rank. Odd sizes, but for q8_0, whose blocks are 32 inputs.
constexpr int kR = 7, kI = 32, kO = 5, kK = 3;
constexpr float kScale = 0.6f;

std::vector<float> random_values(int count, const char* name) {
  const Random random(/*seed=*/3, stream_of(name));
  std::vector<float> values;
  for (int i = 0; i < count; ++i) values.push_back(random.normal(static_cast<std::uint64_t>(i)));
  return values;
}

/// Random values in f32, or rounded to bf16, and the same values in f64.
struct Rows {
  Rows(int rows, int cols, DType dtype, const char* name) : buffer(dtype, static_cast<std::size_t>(rows * cols)) {
    const std::vector<float> values = random_values(rows * cols, name);
    view = buffer.matrix(rows, cols);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (dtype == DType::kF32) static_cast<float*>(view.data)[i] = values[i];
      else static_cast<Bf16*>(view.data)[i] = to_bf16(values[i]);
      to_f64.push_back(dtype == DType::kF32 ? values[i] : to_f32(to_bf16(values[i])));
    }
  }
  TensorBuffer buffer;
  TensorView view;
  F64Vector to_f64;
};

F64Vector to_f64_vector(const TensorView& view) {
  F64Vector values;
  for (int r = 0; r < view.rows; ++r)
    for (int c = 0; c < view.cols; ++c)
      values.push_back(view.dtype == DType::kF32 ? view.row<float>(r)[c] : to_f32(view.row<Bf16>(r)[c]));
  return values;
}

/// Weights by name, some of them in blocks of q8_0.
class Weights : public TensorSource {
 public:
  Weights(const Parameters& parameters, std::string quantized) : quantized_(std::move(quantized)) {
    for (const TensorInfo& tensor : parameters.tensor_infos()) {
      tensors_.push_back(tensor);
      std::vector<float>& values = values_[tensor.name];
      values = random_values(static_cast<int>(tensor.size()), tensor.name.c_str());
      if (tensor.name == quantized_) decode(TensorType::kQ8_0, blocks(values), values);
    }
  }
  std::vector<TensorInfo> tensors() const override { return tensors_; }
  void read(const std::string& name, std::span<float> out) const override {
    std::ranges::copy(values_.at(name), out.begin());
  }
  TensorType stored_type(const std::string& name) const override {
    return name == quantized_ ? TensorType::kQ8_0 : TensorType::kF32;
  }
  void read_stored(const std::string& name, std::span<std::byte> out) const override {
    std::ranges::copy(blocks(values_.at(name)), out.begin());
  }

 private:
  static std::vector<std::byte> blocks(std::span<const float> values) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(bytes_of(TensorType::kQ8_0, std::ssize(values))));
    encode(TensorType::kQ8_0, values, bytes);
    return bytes;
  }
  std::string quantized_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, std::vector<float>> values_;
};

/// Two layers with the same input: the first has a bias and LoRA weights, the second neither.
struct LinearFixture {
  LinearFixture(const Backend& test_backend, DType compute_dtype, bool frozen_weights, bool quantized)
      : backend(test_backend), scratch(*test_backend.memory), ops(test_backend, stream, parameters, scratch) {
    ParameterBuilder builder(parameters, "", "ffn");
    const ShardedAxis outputs{shard_range_of(kO, 0, 1)};
    first.weight = builder.column_parallel("first", outputs, kI);
    second.weight = builder.column_parallel("second", outputs, kI);
    first.bias = builder.bias("bias", outputs);
    builder.add_lora(first, {.rank = kK, .scale = kScale});
    if (frozen_weights) parameters.freeze([](const Parameter& p) { return p.name == "first" || p.name == "second"; });
    const Weights weights(parameters, quantized ? "first" : "");
    parameters.allocate(/*slots=*/1, compute_dtype, quantized ? &weights : nullptr, *test_backend.memory);
    parameters.load(weights);
    parameters.update_compute_copy(test_backend, stream);
    if (!quantized) parameters.enable_gradients();
    for (const Parameter& p : parameters.all()) {
      std::vector<float> values(p.local_size());
      weights.read(p.name, values);
      for (const float value : values)
        f64_weights[p.name].push_back(
            p.keep_f32 || p.quantized || compute_dtype == DType::kF32 ? value : to_f32(to_bf16(value)));
    }
    reserve_lora(scratch, compute_dtype, kR, {first, second}, std::max(kI, 2 * kO));
  }

  const Backend& backend;
  Stream stream;
  Parameters parameters;
  Scratch scratch;
  LinearOps ops;
  Linear first, second;
  std::map<std::string, F64Vector> f64_weights;
};

/// y of both layers by f64 loops. Shapes: x [R, I], y [R, 2 O].
F64Vector forward_f64(const std::map<std::string, F64Vector>& weights, const F64Vector& x_RI) {
  F64Vector y_RO(static_cast<std::size_t>(kR * 2 * kO));
  const auto at = [](const F64Vector& m, int row, int cols, int col) {
    return m[static_cast<std::size_t>(row * cols + col)];
  };
  for (int r = 0; r < kR; ++r) {
    for (int o = 0; o < kO; ++o) {
      double& first = y_RO[static_cast<std::size_t>(r * 2 * kO + o)];
      double& second = y_RO[static_cast<std::size_t>(r * 2 * kO + kO + o)];
      first = weights.at("bias")[static_cast<std::size_t>(o)];
      for (int i = 0; i < kI; ++i) {
        first += at(x_RI, r, kI, i) * at(weights.at("first"), o, kI, i);
        second += at(x_RI, r, kI, i) * at(weights.at("second"), o, kI, i);
        for (int k = 0; k < kK; ++k)
          first += static_cast<double>(kScale) * at(x_RI, r, kI, i) * at(weights.at("first.lora_a"), k, kI, i) *
                   at(weights.at("first.lora_b"), o, kK, k);
      }
    }
  }
  return y_RO;
}

void expect_close(const F64Vector& actual, const F64Vector& expected, double tolerance, const std::string& context) {
  ASSERT_EQ(actual.size(), expected.size()) << context;
  double largest = 0;
  for (const double value : expected) largest = std::max(largest, std::abs(value));
  ASSERT_GT(largest, 0) << context;
  for (std::size_t i = 0; i < actual.size(); ++i)
    ASSERT_NEAR(actual[i], expected[i], tolerance * largest) << context << ", element " << i;
}

// Of the largest element. f32: sums of at most 32 terms, twice in a row. bf16: the result, and x A^T or dy B before it,
// are rounded by at most 2^-9 of themselves.
double tolerance_of(DType compute_dtype) { return compute_dtype == DType::kF32 ? 2e-6 : 6e-3; }

class LinearTest : public testing::TestWithParam<DType> {};

TEST_P(LinearTest, ALowRankAddendIsPartOfTheOutput) {
  for (const Backend* backend : all_backends()) {
    for (const bool quantized : {false, true}) {
      const LinearFixture fixture(*backend, GetParam(), /*frozen_weights=*/false, quantized);
      const Rows x(kR, kI, GetParam(), "x");
      const std::string context = join(backend->name, " ", backend->instructions, quantized ? ", q8_0" : "");
      for (const DType out : {GetParam(), DType::kF32}) {
        TensorBuffer y(out, static_cast<std::size_t>(kR * 2 * kO));
        fixture.ops.forward(x.view, {fixture.first, fixture.second}, y.matrix(kR, 2 * kO));
        expect_close(to_f64_vector(y.matrix(kR, 2 * kO)), forward_f64(fixture.f64_weights, x.to_f64),
                     tolerance_of(GetParam()), context);
      }
      const Rows residual(kR, kO, DType::kF32, "residual");
      TensorBuffer y(DType::kF32, static_cast<std::size_t>(kR * kO));
      fixture.ops.forward_residual(x.view, fixture.first, residual.view.as<float>(), y.matrix(kR, kO).as<float>());
      F64Vector expected, both_outputs = forward_f64(fixture.f64_weights, x.to_f64);
      for (int r = 0; r < kR; ++r)
        for (int o = 0; o < kO; ++o)
          expected.push_back(both_outputs[static_cast<std::size_t>(r * 2 * kO + o)] + residual.view.row<float>(r)[o] -
                             fixture.f64_weights.at("bias")[static_cast<std::size_t>(o)]);
      expect_close(to_f64_vector(y.matrix(kR, kO)), expected, tolerance_of(GetParam()), context + ", residual");
    }
  }
}

/// Central differences of `sum of dy * y` in f64, which is linear in each element: any step gives the derivative.
F64Vector numeric_gradient(F64Vector& values, const std::function<F64Vector()>& forward, const F64Vector& dy) {
  F64Vector gradient;
  for (double& value : values) {
    const auto loss_at = [&, original = value](double step) {
      value = original + step;
      double sum = 0;
      const F64Vector y = forward();
      for (std::size_t i = 0; i < y.size(); ++i) sum += dy[i] * y[i];
      value = original;
      return sum;
    };
    gradient.push_back((loss_at(1) - loss_at(-1)) / 2);
  }
  return gradient;
}

TEST_P(LinearTest, GradientsEqualTheNumericOnesWithFrozenWeightsToo) {
  const DType compute_dtype = GetParam();
  for (const Backend* backend : all_backends()) {
    for (const bool frozen : {false, true}) {
      LinearFixture fixture(*backend, compute_dtype, frozen, /*quantized=*/false);
      Rows x(kR, kI, compute_dtype, "x");
      const Rows dy(kR, 2 * kO, compute_dtype, "dy");
      const Linears layers = {fixture.first, fixture.second};
      Buffer<float> dx(static_cast<std::size_t>(kR * kI));
      fixture.ops.input_gradient(dy.view, layers, dx.matrix(kR, kI));
      fixture.ops.weight_gradient(dy.view, x.view, layers);
      fixture.ops.bias_gradient(dy.view, layers);

      const auto forward = [&] { return forward_f64(fixture.f64_weights, x.to_f64); };
      const std::string context = join(backend->name, " ", backend->instructions, frozen ? ", frozen weights: " : ": ");
      expect_close(to_f64_vector(dx.matrix(kR, kI)), numeric_gradient(x.to_f64, forward, dy.to_f64),
                   tolerance_of(compute_dtype), context + "x");
      for (std::size_t i = 0; i < fixture.parameters.all().size(); ++i) {
        const Parameter& p = fixture.parameters.all()[i];
        EXPECT_EQ(p.trainable, !frozen || (p.name != "first" && p.name != "second")) << context << p.name;
        if (!p.trainable) continue;
        expect_close(to_f64_vector(fixture.parameters.gradient(static_cast<int>(i))),
                     numeric_gradient(fixture.f64_weights.at(p.name), forward, dy.to_f64), tolerance_of(compute_dtype),
                     context + p.name);
      }
    }
  }
}

TEST_P(LinearTest, TheInputsGradientOfOneLayerIsAlsoGivenInTheComputeType) {
  const DType compute_dtype = GetParam();
  for (const Backend* backend : all_backends()) {
    const LinearFixture fixture(*backend, compute_dtype, /*frozen_weights=*/true, /*quantized=*/false);
    const Rows dy(kR, kO, compute_dtype, "dy");
    Buffer<float> dx_f32(static_cast<std::size_t>(kR * kI));
    TensorBuffer dx_compute_dtype(compute_dtype, dx_f32.size());
    fixture.ops.input_gradient(dy.view, {fixture.first}, dx_f32.matrix(kR, kI));
    fixture.ops.input_gradient(dy.view, {fixture.first}, dx_compute_dtype.matrix(kR, kI));
    F64Vector rounded;
    for (const float value : dx_f32.span())
      rounded.push_back(compute_dtype == DType::kF32 ? value : to_f32(to_bf16(value)));
    EXPECT_EQ(to_f64_vector(dx_compute_dtype.matrix(kR, kI)), rounded)
        << backend->instructions << ": the sum is rounded once";
  }
}

INSTANTIATE_TEST_SUITE_P(Compute, LinearTest, testing::Values(DType::kF32, DType::kBf16),
                         [](const auto& tested) { return std::string(name(tested.param)); });

/// A model's weights W with random A and B beside them, or merged into them as `W + scale B A`.
class AdaptedWeights : public TensorSource {
 public:
  AdaptedWeights(const ModelSpec& model, bool merged) : base_(model, /*seed=*/5), merged_(merged) {
    for (const TensorInfo& tensor : base_.tensors()) {
      tensors_.push_back(tensor);
      if (merged || !tensor.name.starts_with("blk.") || tensor.shape.size() != 2) continue;
      tensors_.push_back({tensor.name + ".lora_a", {kK, tensor.cols()}});
      tensors_.push_back({tensor.name + ".lora_b", {tensor.rows(), kK}});
    }
  }
  /// A or B by its name. Values of deviation 0.1.
  static std::vector<float> factor(const std::string& name, std::size_t size) {
    std::vector<float> values = random_values(static_cast<int>(size), name.c_str());
    for (float& value : values) value *= 0.1f;
    return values;
  }
  std::vector<TensorInfo> tensors() const override { return tensors_; }
  void read(const std::string& name, std::span<float> out) const override {
    if (name.ends_with(".lora_a") || name.ends_with(".lora_b")) {
      std::ranges::copy(factor(name, out.size()), out.begin());
      return;
    }
    base_.read(name, out);
    const auto found = std::ranges::find(tensors_, name, &TensorInfo::name);
    if (!merged_ || !name.starts_with("blk.") || found->shape.size() != 2) return;
    const auto O = static_cast<std::size_t>(found->rows()), I = static_cast<std::size_t>(found->cols());
    const std::vector<float> a_KI = factor(name + ".lora_a", kK * I), b_OK = factor(name + ".lora_b", O * kK);
    for (std::size_t o = 0; o < O; ++o)
      for (std::size_t i = 0; i < I; ++i)
        for (std::size_t k = 0; k < kK; ++k) out[o * I + i] += kScale * b_OK[o * kK + k] * a_KI[k * I + i];
  }

 private:
  test::RandomWeights base_;
  bool merged_;
  std::vector<TensorInfo> tensors_;
};

/// The gradient of A or B, which follows from that of the merged weight: `dA = scale B^T dW`, `dB = scale dW A^T`.
std::vector<float> factor_gradient(const Parameter& p, const std::vector<float>& dw_OI) {
  const bool is_a = p.name.ends_with("a");
  const std::string weight = p.name.substr(0, p.name.rfind('.'));
  const auto rows = static_cast<std::size_t>(p.rows), cols = static_cast<std::size_t>(p.cols);
  const std::size_t O = is_a ? dw_OI.size() / cols : rows, I = dw_OI.size() / O;
  const std::vector<float> other_factor =
      AdaptedWeights::factor(weight + (is_a ? ".lora_b" : ".lora_a"), is_a ? O * kK : kK * I);
  std::vector<float> gradient(rows * cols, 0.0f);
  for (std::size_t o = 0; o < O; ++o)
    for (std::size_t i = 0; i < I; ++i)
      for (std::size_t k = 0; k < kK; ++k) {
        if (is_a) gradient[k * I + i] += kScale * other_factor[o * kK + k] * dw_OI[o * I + i];
        else gradient[o * kK + k] += kScale * other_factor[k * I + i] * dw_OI[o * I + i];
      }
  return gradient;
}

Batch small_batch(int vocabulary) {
  constexpr int kTokens = 12;
  Batch batch{.sequences = 1, .tokens_per_sequence = kTokens};
  for (int t = 0; t < kTokens; ++t) {
    batch.ids.push_back((7 * t + 3) % vocabulary), batch.targets.push_back((7 * t + 10) % vocabulary);
    batch.weights.push_back(1.0f), batch.positions.push_back(t), batch.key_start.push_back(0);
  }
  return batch;
}

TEST(LowRankModel, EqualsTheModelWithMergedWeightsOnAnyNumberOfTensorRanks) {
  constexpr double kLossTolerance = 1e-5,
                   kGradientTolerance = 5e-5;  // of the loss, and of each tensor, as in tests/parity/model.cpp
  for (const char* family : {"llama", "gpt2"}) {
    const ModelSpec spec = test::tiny_spec(family, /*tied=*/true);
    const Batch batch = small_batch(spec.vocabulary);
    const std::unique_ptr<Group> self = make_self_group();
    Model merged(spec, cpu_backend(), *self, {});
    merged.parameters().load(AdaptedWeights(spec, /*merged=*/true));
    double expected = 0;
    merged.forward(batch, 1.0f, &expected);
    merged.backward();

    for (const int ranks : {1, 2, 3}) {  // two key-value heads on three ranks: replicated
      run_thread_group(ranks, [&](Group& tensor) {
        Model model(spec, cpu_backend(), tensor,
                    {.frozen = [](const Parameter& p) { return p.name.find("lora") == std::string::npos; },
                     .lora = {.rank = kK, .scale = kScale}});
        model.parameters().load(AdaptedWeights(spec, /*merged=*/false));
        double loss = 0;
        model.forward(batch, 1.0f, &loss);
        model.backward();
        EXPECT_NEAR(loss, expected, kLossTolerance * expected) << family << ", tensor ranks " << ranks;
        int compared = 0;
        for (const Parameter& p : model.parameters().all()) {
          if (!p.trainable) continue;
          ++compared;
          std::vector<float> actual(p.local_size());
          std::copy_n(model.parameters().gradients().data() + p.offset, actual.size(), actual.begin());
          if (p.shard == ShardAxis::kReplicated) tensor.all_reduce_sum(std::span<float>(actual));
          const Matrix<float> dw =
              merged.parameters().gradient(merged.parameters().find(p.name.substr(0, p.name.rfind('.'))));
          EXPECT_LT(relative_error(actual, local_shard(p, factor_gradient(p, {dw.data, dw.data + dw.size()}))),
                    kGradientTolerance)
              << family << ", tensor ranks " << ranks << ", " << p.name;
        }
        EXPECT_EQ(compared, 2 * spec.layers * (spec.learned_positions ? 6 : 7)) << family;
      });
    }
  }
}

TEST(LowRankModel, AFreshAddendChangesNoBit) {
  const ModelSpec spec = test::tiny_spec("llama", /*tied=*/true);
  const Batch batch = small_batch(spec.vocabulary);
  const std::unique_ptr<Group> self = make_self_group();
  const auto compute_loss = [&](const LoraOptions& options) {
    Model model(spec, cpu_backend(), *self, {.lora = options});
    model.parameters().initialize(9);
    double loss = 0;
    model.loss(batch, &loss);
    return loss;
  };
  const auto queries = [](const std::string& weight) { return weight.ends_with("attn_q.weight"); };
  EXPECT_EQ(compute_loss({.rank = 4}), compute_loss({}));
  EXPECT_EQ(compute_loss({.rank = 4, .is_target = queries}), compute_loss({}));
  Model some(spec, cpu_backend(), *self, {.lora = {.rank = 4, .is_target = queries}});
  EXPECT_GE(some.parameters().find("blk.1.attn_q.weight.lora_a"), 0);
  EXPECT_EQ(some.parameters().find("blk.1.attn_k.weight.lora_a"), -1);
}

}  // namespace
}  // namespace slipway
