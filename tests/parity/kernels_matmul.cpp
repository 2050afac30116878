// Matrix products of every backend against f64 loops.
#include <tuple>

#include "tests/support/kernels_oracle.hpp"
#include "tests/support/test_matrix.hpp"

namespace slipway {
namespace {

using namespace testing_support;
using oracle::F64Vector;

// K products of normal values: partial sums reach sqrt(K) and round K times by 2^-24 of themselves, at random: at K =
// 300 that is 300 * 6e-8 = 2e-5; the factor 3 is for the largest of some thousand elements.
constexpr double kTolerance = 6e-5;

/// A product's sizes and form. The padding is what stands between rows.
struct MatMulCase {
  int M, N, K;
  bool transpose_a = false, transpose_b = false, accumulate = false;
  int padding_a = 3, padding_b = 3;
};

std::string case_text(const MatMulCase& f) {
  return join("M=", f.M, " N=", f.N, " K=", f.K, f.transpose_a ? " a^T" : "", f.transpose_b ? " b^T" : "",
              f.accumulate ? " accumulate" : "", " padding ", f.padding_a, " ", f.padding_b);
}

class MatMulTest : public KernelTest {
 protected:
  TestMatrix make_a(const MatMulCase& f) {
    return normal(f.transpose_a ? f.K : f.M, f.transpose_a ? f.M : f.K, 1, 1.0f, f.padding_a);
  }
  TestMatrix make_b(const MatMulCase& f) {
    return normal(f.transpose_b ? f.N : f.K, f.transpose_b ? f.K : f.N, 2, 1.0f, f.padding_b);
  }

  void expect_matmul(const MatMulCase& f) {
    const TestMatrix a = make_a(f), b = make_b(f);
    TestMatrix c = normal(f.M, f.N, 3);
    const F64Vector expected = oracle::matmul(a.to_f64(), b.to_f64(), f.M, f.N, f.K, f.transpose_a, f.transpose_b,
                                              f.accumulate ? c.to_f64() : F64Vector(c.to_f64().size()));
    backend().matmul(stream, {.a = a.view(),
                              .b = b.view(),
                              .c = c.view(),
                              .transpose_a = f.transpose_a,
                              .transpose_b = f.transpose_b,
                              .accumulate = f.accumulate});
    expect_close(c, expected, kTolerance, case_text(f));
  }
};

TEST_P(MatMulTest, MatchesDoublePrecisionInEveryForm) {
  const std::vector<std::vector<int>> sizes = {{1, 1, 1},    {5, 31, 33},  {33, 1, 64},   {64, 127, 1}, {127, 33, 300},
                                               {48, 96, 64}, {0, 5, 7},    {5, 0, 7},     {5, 7, 0},    {0, 0, 0},
                                               {1, 127, 64}, {2, 64, 127}, {130, 65, 31}, {8, 37, 130}};
  for (const auto& size : sizes)
    for (int form = 0; form < 8; ++form)
      ASSERT_NO_FATAL_FAILURE(expect_matmul(
          {size[0], size[1], size[2], (form & 1) != 0, (form & 2) != 0, (form & 4) != 0, form % 3, 5 * (form & 1)}));
}

TEST_P(MatMulTest, MatchesDoublePrecisionOnRandomSizes) {
  for (std::uint64_t i = 0; i < 40; ++i) {
    const std::vector<int> size = integers(3, 1, 140, 100 + i), flags = integers(5, 0, 2, 200 + i);
    ASSERT_NO_FATAL_FAILURE(expect_matmul(
        {size[0], size[1], size[2], flags[0] == 1, flags[1] == 1, flags[2] == 1, 7 * flags[3], 9 * flags[4]}));
  }
}

TEST_P(MatMulTest, MatchesDoublePrecisionWhereRowsShareCacheSets) {
  for (const bool accumulate : {false, true})
    for (const bool transpose_b : {false, true}) {
      ASSERT_NO_FATAL_FAILURE(expect_matmul({500, 33, 17, true, transpose_b, accumulate, 12, 3}));
      ASSERT_NO_FATAL_FAILURE(expect_matmul({1024, 64, 9, true, transpose_b, accumulate, 0, 0}));
      ASSERT_NO_FATAL_FAILURE(expect_matmul({1030, 5, 33, true, transpose_b, accumulate, 506, 0}));
    }
}

TEST_P(MatMulTest, MatchesDoublePrecisionWithSeveralThreads) {
  stream.threads = 3;
  for (int form = 0; form < 4; ++form)
    ASSERT_NO_FATAL_FAILURE(expect_matmul({131, 67, 90, (form & 1) != 0, (form & 2) != 0, form == 2, 0, 0}));
  ASSERT_NO_FATAL_FAILURE(expect_matmul({1030, 33, 40, true, false, true, 506, 0}));
  ASSERT_NO_FATAL_FAILURE(expect_matmul({3, 257, 130, false, true, false, 0, 0}));
}

TEST_P(MatMulTest, TakesBf16OperandsAndSumsThemInF32) {
  for (int form = 0; form < 8; ++form)
    for (const std::vector<int>& size :
         {std::vector<int>{7, 33, 65}, {64, 5, 127}, {512, 3, 9}, {3, 4, 0}, {1, 1, 1}}) {
      const MatMulCase f{size[0], size[1], size[2], (form & 1) != 0, (form & 2) != 0, (form & 4) != 0};
      TestMatrix a = make_a(f), b = make_b(f), c = normal(f.M, f.N, 3);
      const auto round_to_bf16 =
          [](TestMatrix& matrix) {  // rounds the grid itself too, so that the oracle sees what the kernel sees
            std::vector<Bf16> values;
            for (int r = 0; r < matrix.rows(); ++r)
              for (int k = 0; k < matrix.cols(); ++k) {
                values.push_back(to_bf16(matrix.at(r, k)));
                matrix.at(r, k) = to_f32(values.back());
              }
            return values;
          };
      std::vector<Bf16> a_bf16 = round_to_bf16(a), b_bf16 = round_to_bf16(b);
      const F64Vector expected = oracle::matmul(a.to_f64(), b.to_f64(), f.M, f.N, f.K, f.transpose_a, f.transpose_b,
                                                f.accumulate ? c.to_f64() : F64Vector(c.to_f64().size()));
      backend().matmul(stream, {.a = Matrix<const Bf16>{a_bf16.data(), a.rows(), a.cols(), a.cols()},
                                .b = Matrix<const Bf16>{b_bf16.data(), b.rows(), b.cols(), b.cols()},
                                .c = c.view(),
                                .transpose_a = f.transpose_a,
                                .transpose_b = f.transpose_b,
                                .accumulate = f.accumulate});
      ASSERT_NO_FATAL_FAILURE(expect_close(c, expected, kTolerance, "bf16 " + case_text(f)));
    }
}

TEST_P(MatMulTest, AddsToAnAddendAsToItself) {
  for (const auto& [M, N, K] :
       std::vector<std::tuple<int, int, int>>{{5, 31, 33}, {64, 96, 64}, {1, 40, 16}, {3, 4, 0}})
    for (const bool transpose_b : {false, true}) {
      const MatMulCase f{M, N, K, false, transpose_b};
      const TestMatrix a = make_a(f), b = make_b(f), residual = normal(M, N, 4, 1.0f, 7);
      TestMatrix c(M, N);
      const F64Vector expected = oracle::matmul(a.to_f64(), b.to_f64(), M, N, K, false, transpose_b, residual.to_f64());
      backend().matmul(
          stream,
          {.a = a.view(), .b = b.view(), .c = c.view(), .transpose_b = transpose_b, .residual = residual.view()});
      ASSERT_NO_FATAL_FAILURE(expect_close(c, expected, kTolerance, "residual, " + case_text(f)));
    }
}

TEST_P(MatMulTest, GivesTheSameBitsAgainAndInOtherMemory) {
  for (int form = 0; form < 4; ++form) {
    const MatMulCase f{129, 67, 200, (form & 1) != 0, (form & 2) != 0};
    const TestMatrix a = make_a(f), b = make_b(f), other_a = a, other_b = b;
    TestMatrix first(f.M, f.N), second(f.M, f.N);
    backend().matmul(
        stream,
        {.a = a.view(), .b = b.view(), .c = first.view(), .transpose_a = f.transpose_a, .transpose_b = f.transpose_b});
    backend().matmul(stream, {.a = other_a.view(),
                              .b = other_b.view(),
                              .c = second.view(),
                              .transpose_a = f.transpose_a,
                              .transpose_b = f.transpose_b});
    ASSERT_NO_FATAL_FAILURE(expect_same_bits(second, first, case_text(f)));
  }
}

TEST_P(MatMulTest, RefusesShapesAndTypesThatDisagree) {
  const TestMatrix a = normal(4, 5, 1), b = normal(6, 7, 2);
  TestMatrix c(4, 7);
  try {
    backend().matmul(stream, {.a = a.view(), .b = b.view(), .c = c.view()});
    FAIL() << "multiplied [4, 5] by [6, 7]";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kBug);
    EXPECT_STREQ(error.what(), "matmul: [4, 5] times [6, 7] cannot give [4, 7]");
  }
  const std::vector<Bf16> values_bf16(35);
  EXPECT_THROW(
      backend().matmul(stream, {.a = a.view(), .b = Matrix<const Bf16>{values_bf16.data(), 5, 7, 7}, .c = c.view()}),
      Error);
}

INSTANTIATE_TEST_SUITE_P(Backends, MatMulTest, every_backend(), backend_name);

}  // namespace
}  // namespace slipway
