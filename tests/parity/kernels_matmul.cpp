// Matrix products of every backend against f64 loops.
#include <tuple>

#include "tests/support/kernels_grid.hpp"
#include "tests/support/kernels_oracle.hpp"

namespace slipway {
namespace {

using namespace testing_support;
using oracle::Doubles;

// K products of normal values: partial sums reach sqrt(K) and round K times by 2^-24 of themselves, at random: at K =
// 300 that is 300 * 6e-8 = 2e-5; the factor 3 is for the largest of some thousand elements.
constexpr double kTolerance = 6e-5;

/// A product's sizes and form. The padding is what stands between rows.
struct Form {
  int M, N, K;
  bool transpose_a = false, transpose_b = false, accumulate = false;
  int padding_a = 3, padding_b = 3;
};

std::string words(const Form& f) {
  return join("M=", f.M, " N=", f.N, " K=", f.K, f.transpose_a ? " a^T" : "", f.transpose_b ? " b^T" : "",
              f.accumulate ? " accumulate" : "", " padding ", f.padding_a, " ", f.padding_b);
}

class MatMulTest : public KernelTest {
 protected:
  Grid a_of(const Form& f) {
    return normal(f.transpose_a ? f.K : f.M, f.transpose_a ? f.M : f.K, 1, 1.0f, f.padding_a);
  }
  Grid b_of(const Form& f) {
    return normal(f.transpose_b ? f.N : f.K, f.transpose_b ? f.K : f.N, 2, 1.0f, f.padding_b);
  }

  void expect_product(const Form& f) {
    const Grid a = a_of(f), b = b_of(f);
    Grid c = normal(f.M, f.N, 3);
    const Doubles want = oracle::matmul(a.doubles(), b.doubles(), f.M, f.N, f.K, f.transpose_a, f.transpose_b,
                                        f.accumulate ? c.doubles() : Doubles(c.doubles().size()));
    backend().matmul(stream, {.a = a.view(),
                              .b = b.view(),
                              .c = c.view(),
                              .transpose_a = f.transpose_a,
                              .transpose_b = f.transpose_b,
                              .accumulate = f.accumulate});
    expect_close(c, want, kTolerance, words(f));
  }
};

TEST_P(MatMulTest, MatchesDoublePrecisionInEveryForm) {
  const std::vector<std::vector<int>> sizes = {{1, 1, 1},    {5, 31, 33},  {33, 1, 64},   {64, 127, 1}, {127, 33, 300},
                                               {48, 96, 64}, {0, 5, 7},    {5, 0, 7},     {5, 7, 0},    {0, 0, 0},
                                               {1, 127, 64}, {2, 64, 127}, {130, 65, 31}, {8, 37, 130}};
  for (const auto& size : sizes)
    for (int form = 0; form < 8; ++form)
      ASSERT_NO_FATAL_FAILURE(expect_product(
          {size[0], size[1], size[2], (form & 1) != 0, (form & 2) != 0, (form & 4) != 0, form % 3, 5 * (form & 1)}));
}

TEST_P(MatMulTest, MatchesDoublePrecisionOnRandomSizes) {
  for (std::uint64_t i = 0; i < 40; ++i) {
    const std::vector<int> size = integers(3, 1, 140, 100 + i), flags = integers(5, 0, 2, 200 + i);
    ASSERT_NO_FATAL_FAILURE(expect_product(
        {size[0], size[1], size[2], flags[0] == 1, flags[1] == 1, flags[2] == 1, 7 * flags[3], 9 * flags[4]}));
  }
}

TEST_P(MatMulTest, MatchesDoublePrecisionWhereRowsShareCacheSets) {
  for (const bool accumulate : {false, true})
    for (const bool transpose_b : {false, true}) {
      ASSERT_NO_FATAL_FAILURE(expect_product({500, 33, 17, true, transpose_b, accumulate, 12, 3}));
      ASSERT_NO_FATAL_FAILURE(expect_product({1024, 64, 9, true, transpose_b, accumulate, 0, 0}));
      ASSERT_NO_FATAL_FAILURE(expect_product({1030, 5, 33, true, transpose_b, accumulate, 506, 0}));
    }
}

TEST_P(MatMulTest, MatchesDoublePrecisionWithSeveralThreads) {
  stream.threads = 3;
  for (int form = 0; form < 4; ++form)
    ASSERT_NO_FATAL_FAILURE(expect_product({131, 67, 90, (form & 1) != 0, (form & 2) != 0, form == 2, 0, 0}));
  ASSERT_NO_FATAL_FAILURE(expect_product({1030, 33, 40, true, false, true, 506, 0}));
  ASSERT_NO_FATAL_FAILURE(expect_product({3, 257, 130, false, true, false, 0, 0}));
}

TEST_P(MatMulTest, TakesBf16OperandsAndSumsThemInF32) {
  for (int form = 0; form < 8; ++form)
    for (const std::vector<int>& size :
         {std::vector<int>{7, 33, 65}, {64, 5, 127}, {512, 3, 9}, {3, 4, 0}, {1, 1, 1}}) {
      const Form f{size[0], size[1], size[2], (form & 1) != 0, (form & 2) != 0, (form & 4) != 0};
      Grid a = a_of(f), b = b_of(f), c = normal(f.M, f.N, 3);
      const auto narrow = [](Grid& grid) {  // rounds the grid itself too, so that the oracle sees what the kernel sees
        std::vector<Bf16> values;
        for (int r = 0; r < grid.rows(); ++r)
          for (int k = 0; k < grid.cols(); ++k) {
            values.push_back(to_bf16(grid.at(r, k)));
            grid.at(r, k) = to_f32(values.back());
          }
        return values;
      };
      std::vector<Bf16> narrow_a = narrow(a), narrow_b = narrow(b);
      const Doubles want = oracle::matmul(a.doubles(), b.doubles(), f.M, f.N, f.K, f.transpose_a, f.transpose_b,
                                          f.accumulate ? c.doubles() : Doubles(c.doubles().size()));
      backend().matmul(stream, {.a = Matrix<const Bf16>{narrow_a.data(), a.rows(), a.cols(), a.cols()},
                                .b = Matrix<const Bf16>{narrow_b.data(), b.rows(), b.cols(), b.cols()},
                                .c = c.view(),
                                .transpose_a = f.transpose_a,
                                .transpose_b = f.transpose_b,
                                .accumulate = f.accumulate});
      ASSERT_NO_FATAL_FAILURE(expect_close(c, want, kTolerance, "bf16 " + words(f)));
    }
}

TEST_P(MatMulTest, AddsToAnAddendAsToItself) {
  for (const auto& [M, N, K] :
       std::vector<std::tuple<int, int, int>>{{5, 31, 33}, {64, 96, 64}, {1, 40, 16}, {3, 4, 0}})
    for (const bool transpose_b : {false, true}) {
      const Form f{M, N, K, false, transpose_b};
      const Grid a = a_of(f), b = b_of(f), addend = normal(M, N, 4, 1.0f, 7);
      Grid c(M, N);
      const Doubles want = oracle::matmul(a.doubles(), b.doubles(), M, N, K, false, transpose_b, addend.doubles());
      backend().matmul(
          stream, {.a = a.view(), .b = b.view(), .c = c.view(), .transpose_b = transpose_b, .addend = addend.view()});
      ASSERT_NO_FATAL_FAILURE(expect_close(c, want, kTolerance, "addend, " + words(f)));
    }
}

TEST_P(MatMulTest, GivesTheSameBitsAgainAndInOtherMemory) {
  for (int form = 0; form < 4; ++form) {
    const Form f{129, 67, 200, (form & 1) != 0, (form & 2) != 0};
    const Grid a = a_of(f), b = b_of(f), other_a = a, other_b = b;
    Grid first(f.M, f.N), again(f.M, f.N);
    backend().matmul(
        stream,
        {.a = a.view(), .b = b.view(), .c = first.view(), .transpose_a = f.transpose_a, .transpose_b = f.transpose_b});
    backend().matmul(stream, {.a = other_a.view(),
                              .b = other_b.view(),
                              .c = again.view(),
                              .transpose_a = f.transpose_a,
                              .transpose_b = f.transpose_b});
    ASSERT_NO_FATAL_FAILURE(expect_same_bits(again, first, words(f)));
  }
}

TEST_P(MatMulTest, RefusesShapesAndTypesThatDisagree) {
  const Grid a = normal(4, 5, 1), b = normal(6, 7, 2);
  Grid c(4, 7);
  try {
    backend().matmul(stream, {.a = a.view(), .b = b.view(), .c = c.view()});
    FAIL() << "multiplied [4, 5] by [6, 7]";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kBug);
    EXPECT_STREQ(error.what(), "matmul: [4, 5] times [6, 7] cannot give [4, 7]");
  }
  const std::vector<Bf16> narrow(35);
  EXPECT_THROW(
      backend().matmul(stream, {.a = a.view(), .b = Matrix<const Bf16>{narrow.data(), 5, 7, 7}, .c = c.view()}), Error);
}

INSTANTIATE_TEST_SUITE_P(Backends, MatMulTest, every_table(), table_name);

}  // namespace
}  // namespace slipway
