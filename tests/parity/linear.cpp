// Linear layers with a low-rank addend: against f64 loops and their numeric gradient, and in a model on tensor ranks.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <memory>

#include "kernels/backend/cpu_backend.hpp"
#include "src/model/model.hpp"
#include "tests/support/parameter_part.hpp"
#include "tests/support/random_model.hpp"

namespace slipway {
namespace {

using Doubles = std::vector<double>;
using test::part_of, test::relative_error;

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
      doubles.push_back(dtype == DType::kF32 ? values[i] : to_f32(to_bf16(values[i])));
    }
  }
  TensorBuffer buffer;
  TensorView view;
  Doubles doubles;
};

Doubles doubles_of(const TensorView& view) {
  Doubles values;
  for (int r = 0; r < view.rows; ++r)
    for (int c = 0; c < view.cols; ++c)
      values.push_back(view.dtype == DType::kF32 ? view.row<float>(r)[c] : to_f32(view.row<Bf16>(r)[c]));
  return values;
}

/// Weights by name, some of them in blocks of q8_0.
class Weights : public TensorSource {
 public:
  Weights(const Parameters& parameters, std::string quantized) : quantized_(std::move(quantized)) {
    for (const TensorInfo& tensor : parameters.named()) {
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
  TensorType stored_as(const std::string& name) const override {
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

/// Two layers with the same input: the first has a bias and an addend, the second neither.
struct Subject {
  Subject(const Backend& used, DType compute_dtype, bool frozen_weights, bool quantized)
      : backend(used), scratch(*used.memory), ops(used, stream, parameters, scratch) {
    ParameterBuilder build(parameters, "", "ffn");
    const ShardedAxis outputs{shard_range_of(kO, 0, 1)};
    first.weight = build.column_parallel("first", outputs, kI);
    second.weight = build.column_parallel("second", outputs, kI);
    first.bias = build.bias("bias", outputs);
    build.add_low_rank(first, {.rank = kK, .scale = kScale});
    if (frozen_weights) parameters.freeze([](const Parameter& p) { return p.name == "first" || p.name == "second"; });
    const Weights weights(parameters, quantized ? "first" : "");
    parameters.allocate(/*slots=*/1, compute_dtype, quantized ? &weights : nullptr, *used.memory);
    parameters.load(weights);
    parameters.refresh(used, stream);
    if (!quantized) parameters.enable_gradients();
    for (const Parameter& p : parameters.all()) {
      std::vector<float> values(p.local_size());
      weights.read(p.name, values);
      for (const float value : values)
        as_used[p.name].push_back(p.keep_f32 || p.quantized || compute_dtype == DType::kF32 ? value
                                                                                            : to_f32(to_bf16(value)));
    }
    reserve_low_rank(scratch, compute_dtype, kR, {first, second}, std::max(kI, 2 * kO));
  }

  const Backend& backend;
  Stream stream;
  Parameters parameters;
  Scratch scratch;
  LinearOps ops;
  Linear first, second;
  std::map<std::string, Doubles> as_used;
};

/// y of both layers by f64 loops. Shapes: x [R, I], y [R, 2 O].
Doubles forward_f64(const std::map<std::string, Doubles>& weights, const Doubles& x_RI) {
  Doubles y_RO(static_cast<std::size_t>(kR * 2 * kO));
  const auto at = [](const Doubles& m, int row, int cols, int col) {
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

void expect_close(const Doubles& got, const Doubles& want, double tolerance, const std::string& where) {
  ASSERT_EQ(got.size(), want.size()) << where;
  double largest = 0;
  for (const double value : want) largest = std::max(largest, std::abs(value));
  ASSERT_GT(largest, 0) << where;
  for (std::size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got[i], want[i], tolerance * largest) << where << ", element " << i;
}

// Of the largest element. f32: sums of at most 32 terms, twice in a row. bf16: the result, and x A^T or dy B before it,
// are rounded by at most 2^-9 of themselves.
double tolerance_of(DType compute_dtype) { return compute_dtype == DType::kF32 ? 2e-6 : 6e-3; }

class LinearTest : public testing::TestWithParam<DType> {};

TEST_P(LinearTest, ALowRankAddendIsPartOfTheOutput) {
  for (const Backend* backend : all_backends()) {
    for (const bool quantized : {false, true}) {
      const Subject subject(*backend, GetParam(), /*frozen_weights=*/false, quantized);
      const Rows x(kR, kI, GetParam(), "x");
      const std::string where = join(backend->name, " ", backend->instructions, quantized ? ", q8_0" : "");
      for (const DType out : {GetParam(), DType::kF32}) {
        TensorBuffer y(out, static_cast<std::size_t>(kR * 2 * kO));
        subject.ops.forward(x.view, {subject.first, subject.second}, y.matrix(kR, 2 * kO));
        expect_close(doubles_of(y.matrix(kR, 2 * kO)), forward_f64(subject.as_used, x.doubles),
                     tolerance_of(GetParam()), where);
      }
      const Rows addend(kR, kO, DType::kF32, "addend");
      TensorBuffer y(DType::kF32, static_cast<std::size_t>(kR * kO));
      subject.ops.forward_residual(x.view, subject.first, addend.view.as<float>(), y.matrix(kR, kO).as<float>());
      Doubles want, both = forward_f64(subject.as_used, x.doubles);
      for (int r = 0; r < kR; ++r)
        for (int o = 0; o < kO; ++o)
          want.push_back(both[static_cast<std::size_t>(r * 2 * kO + o)] + addend.view.row<float>(r)[o] -
                         subject.as_used.at("bias")[static_cast<std::size_t>(o)]);
      expect_close(doubles_of(y.matrix(kR, kO)), want, tolerance_of(GetParam()), where + ", residual");
    }
  }
}

/// Central differences of `sum of dy * y` in f64, which is linear in each element: any step gives the derivative.
Doubles numeric_gradient(Doubles& values, const std::function<Doubles()>& forward, const Doubles& dy) {
  Doubles gradient;
  for (double& value : values) {
    const auto loss_at = [&, was = value](double step) {
      value = was + step;
      double sum = 0;
      const Doubles y = forward();
      for (std::size_t i = 0; i < y.size(); ++i) sum += dy[i] * y[i];
      value = was;
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
      Subject subject(*backend, compute_dtype, frozen, /*quantized=*/false);
      Rows x(kR, kI, compute_dtype, "x");
      const Rows dy(kR, 2 * kO, compute_dtype, "dy");
      const Linears layers = {subject.first, subject.second};
      Buffer<float> dx(static_cast<std::size_t>(kR * kI));
      subject.ops.input_gradient(dy.view, layers, dx.matrix(kR, kI));
      subject.ops.weight_gradient(dy.view, x.view, layers);
      subject.ops.bias_gradient(dy.view, layers);

      const auto forward = [&] { return forward_f64(subject.as_used, x.doubles); };
      const std::string where = join(backend->name, " ", backend->instructions, frozen ? ", frozen weights: " : ": ");
      expect_close(doubles_of(dx.matrix(kR, kI)), numeric_gradient(x.doubles, forward, dy.doubles),
                   tolerance_of(compute_dtype), where + "x");
      for (std::size_t i = 0; i < subject.parameters.all().size(); ++i) {
        const Parameter& p = subject.parameters.all()[i];
        EXPECT_EQ(p.trainable, !frozen || (p.name != "first" && p.name != "second")) << where << p.name;
        if (!p.trainable) continue;
        expect_close(doubles_of(subject.parameters.gradient(static_cast<int>(i))),
                     numeric_gradient(subject.as_used.at(p.name), forward, dy.doubles), tolerance_of(compute_dtype),
                     where + p.name);
      }
    }
  }
}

TEST_P(LinearTest, TheInputsGradientOfOneLayerIsAlsoGivenInTheComputeType) {
  const DType compute_dtype = GetParam();
  for (const Backend* backend : all_backends()) {
    const Subject subject(*backend, compute_dtype, /*frozen_weights=*/true, /*quantized=*/false);
    const Rows dy(kR, kO, compute_dtype, "dy");
    Buffer<float> wide(static_cast<std::size_t>(kR * kI));
    TensorBuffer narrow(compute_dtype, wide.size());
    subject.ops.input_gradient(dy.view, {subject.first}, wide.matrix(kR, kI));
    subject.ops.input_gradient(dy.view, {subject.first}, narrow.matrix(kR, kI));
    Doubles rounded;
    for (const float value : wide.span())
      rounded.push_back(compute_dtype == DType::kF32 ? value : to_f32(to_bf16(value)));
    EXPECT_EQ(doubles_of(narrow.matrix(kR, kI)), rounded) << backend->instructions << ": the sum is rounded once";
  }
}

INSTANTIATE_TEST_SUITE_P(Compute, LinearTest, testing::Values(DType::kF32, DType::kBf16),
                         [](const auto& each) { return std::string(name(each.param)); });

/// A model's weights W with random A and B beside them, or merged into them as `W + scale B A`.
class Adapted : public TensorSource {
 public:
  Adapted(const ModelSpec& model, bool merged) : base_(model, /*seed=*/5), merged_(merged) {
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
  const std::vector<float> other = Adapted::factor(weight + (is_a ? ".lora_b" : ".lora_a"), is_a ? O * kK : kK * I);
  std::vector<float> gradient(rows * cols, 0.0f);
  for (std::size_t o = 0; o < O; ++o)
    for (std::size_t i = 0; i < I; ++i)
      for (std::size_t k = 0; k < kK; ++k) {
        if (is_a) gradient[k * I + i] += kScale * other[o * kK + k] * dw_OI[o * I + i];
        else gradient[o * kK + k] += kScale * other[k * I + i] * dw_OI[o * I + i];
      }
  return gradient;
}

Batch small_batch(int vocabulary) {
  constexpr int kTokens = 12;
  Batch batch{.sequences = 1, .tokens = kTokens};
  for (int t = 0; t < kTokens; ++t) {
    batch.ids.push_back((7 * t + 3) % vocabulary), batch.targets.push_back((7 * t + 10) % vocabulary);
    batch.weights.push_back(1.0f), batch.positions.push_back(t), batch.first_key.push_back(0);
  }
  return batch;
}

TEST(LowRankModel, EqualsTheModelWithMergedWeightsOnAnyNumberOfTensorRanks) {
  constexpr double kNats = 1e-5, kGradient = 5e-5;  // of the loss, and of each tensor, as in tests/parity/model.cpp
  for (const char* family : {"llama", "gpt2"}) {
    const ModelSpec spec = test::tiny_spec(family, /*tied=*/true);
    const Batch batch = small_batch(spec.vocabulary);
    const std::unique_ptr<Group> self = make_self_group();
    Model merged(spec, cpu_backend(), *self, {});
    merged.parameters().load(Adapted(spec, /*merged=*/true));
    double want = 0;
    merged.forward(batch, 1.0f, &want);
    merged.backward();

    for (const int ranks : {1, 2, 3}) {  // two key-value heads on three ranks: replicated
      run_thread_group(ranks, [&](Group& tensor) {
        Model model(spec, cpu_backend(), tensor,
                    {.frozen = [](const Parameter& p) { return p.name.find("lora") == std::string::npos; },
                     .low_rank = {.rank = kK, .scale = kScale}});
        model.parameters().load(Adapted(spec, /*merged=*/false));
        double loss = 0;
        model.forward(batch, 1.0f, &loss);
        model.backward();
        EXPECT_NEAR(loss, want, kNats * want) << family << ", tensor ranks " << ranks;
        int compared = 0;
        for (const Parameter& p : model.parameters().all()) {
          if (!p.trainable) continue;
          ++compared;
          std::vector<float> got(p.local_size());
          std::copy_n(model.parameters().gradients().data() + p.offset, got.size(), got.begin());
          if (p.shard == ShardAxis::kReplicated) tensor.all_reduce_sum(std::span<float>(got));
          const Matrix<float> dw =
              merged.parameters().gradient(merged.parameters().find(p.name.substr(0, p.name.rfind('.'))));
          EXPECT_LT(relative_error(got, part_of(p, factor_gradient(p, {dw.data, dw.data + dw.size()}))), kGradient)
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
  const auto loss_with = [&](const LowRankOptions& options) {
    Model model(spec, cpu_backend(), *self, {.low_rank = options});
    model.parameters().initialize(9);
    double loss = 0;
    model.loss(batch, &loss);
    return loss;
  };
  const auto queries = [](const std::string& weight) { return weight.ends_with("attn_q.weight"); };
  EXPECT_EQ(loss_with({.rank = 4}), loss_with({}));
  EXPECT_EQ(loss_with({.rank = 4, .chosen = queries}), loss_with({}));
  Model some(spec, cpu_backend(), *self, {.low_rank = {.rank = 4, .chosen = queries}});
  EXPECT_GE(some.parameters().find("blk.1.attn_q.weight.lora_a"), 0);
  EXPECT_EQ(some.parameters().find("blk.1.attn_k.weight.lora_a"), -1);
}

}  // namespace
}  // namespace slipway
