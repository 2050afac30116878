// Test matrices for the kernels: seeded values between columns of NaN, so that a kernel that reads or writes outside
// its columns is found out.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/backend/cpu_backend.hpp"
#include "src/core/random.hpp"
#include "src/core/tensor.hpp"
#include "tests/support/kernels_backends.hpp"

namespace slipway::testing_support {

/// Rows of whole eights begin on 16-byte boundaries, as a model's do; others do not.
inline int default_padding(int cols) { return cols % 8 == 0 ? 8 : 3; }

/// A matrix whose rows are `padding` elements apart; the padding is NaN and must stay so.
class TestMatrix {
 public:
  TestMatrix(int rows, int cols) : TestMatrix(rows, cols, default_padding(cols)) {}
  TestMatrix(int rows, int cols, int padding)
      : rows_(rows),
        cols_(cols),
        stride_(cols + padding),
        data_(static_cast<std::size_t>(rows) * static_cast<std::size_t>(stride_),
              std::numeric_limits<float>::quiet_NaN()) {
    for (int r = 0; r < rows_; ++r) std::fill_n(view().row(r), cols_, 0.0f);
  }

  int rows() const { return rows_; }
  int cols() const { return cols_; }
  Matrix<float> view() { return {data_.data(), rows_, cols_, stride_}; }
  Matrix<const float> view() const { return {data_.data(), rows_, cols_, stride_}; }
  float* row(int r) { return view().row(r); }
  const float* row(int r) const { return view().row(r); }
  float& at(int r, int c) { return row(r)[c]; }

  /// The elements, row by row, without the padding.
  std::vector<double> to_f64() const {
    std::vector<double> values;
    for (int r = 0; r < rows_; ++r) values.insert(values.end(), row(r), row(r) + cols_);
    return values;
  }
  bool padding_is_nan() const {
    for (int r = 0; r < rows_; ++r)
      for (int c = cols_; c < stride_; ++c)
        if (!std::isnan(
                data_[static_cast<std::size_t>(r) * static_cast<std::size_t>(stride_) + static_cast<std::size_t>(c)]))
          return false;
    return true;
  }

 private:
  int rows_, cols_, stride_;
  std::vector<float> data_;
};

/// Normal values of deviation `stddev`.
inline TestMatrix normal(int rows, int cols, std::uint64_t seed, float stddev, int padding) {
  TestMatrix matrix(rows, cols, padding);
  const Random random(seed, stream_of("kernel tests"));
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < cols; ++c)
      matrix.at(r, c) = stddev * random.normal(static_cast<std::uint64_t>(r) * static_cast<std::uint64_t>(cols) +
                                               static_cast<std::uint64_t>(c));
  return matrix;
}

inline TestMatrix normal(int rows, int cols, std::uint64_t seed, float stddev = 1.0f) {
  return normal(rows, cols, seed, stddev, default_padding(cols));
}

/// Whole numbers in [low, high).
inline std::vector<int> integers(int count, int low, int high, std::uint64_t seed) {
  std::vector<int> values(static_cast<std::size_t>(count));
  const Random random(seed, stream_of("kernel tests"));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = low + static_cast<int>(random.uniform_int(static_cast<std::uint64_t>(high - low), i));
  return values;
}

/// Every element within `tolerance * max(1, |expected|)`, and nothing written outside the columns.
inline void expect_close(const TestMatrix& actual, const std::vector<double>& expected, double tolerance,
                         const std::string& what) {
  ASSERT_EQ(expected.size(), static_cast<std::size_t>(actual.rows()) * static_cast<std::size_t>(actual.cols())) << what;
  EXPECT_TRUE(actual.padding_is_nan()) << what << ": wrote outside its columns";
  for (int r = 0; r < actual.rows(); ++r)
    for (int c = 0; c < actual.cols(); ++c) {
      const double expected_value =
          expected[static_cast<std::size_t>(r) * static_cast<std::size_t>(actual.cols()) + static_cast<std::size_t>(c)];
      ASSERT_NEAR(actual.row(r)[c], expected_value, tolerance * std::max(1.0, std::abs(expected_value)))
          << what << " [" << actual.rows() << ", " << actual.cols() << "] at (" << r << ", " << c << ")";
    }
}

/// The same bits everywhere.
inline void expect_same_bits(const TestMatrix& actual, const TestMatrix& expected, const std::string& what) {
  ASSERT_EQ(actual.rows(), expected.rows()) << what;
  for (int r = 0; r < actual.rows(); ++r)
    for (int c = 0; c < actual.cols(); ++c)
      ASSERT_EQ(std::bit_cast<std::uint32_t>(actual.row(r)[c]), std::bit_cast<std::uint32_t>(expected.row(r)[c]))
          << what << " at (" << r << ", " << c << "): " << actual.row(r)[c] << " and " << expected.row(r)[c];
}

/// INSTANTIATE_TEST_SUITE_P(Backends, SomeTest, every_backend(), backend_name).
inline auto every_backend() { return ::testing::ValuesIn(backends_under_test().begin(), backends_under_test().end()); }
inline std::string backend_name(const ::testing::TestParamInfo<const Backend*>& info) {
  std::string name = join(info.param->name, "_", info.param->instructions, "_", info.param->gemm_library);
  for (char& letter : name) letter = letter == '-' ? '_' : letter;
  return name;
}

/// Tests that run on every backend, with one thread unless they ask for more: a busy machine wakes a second one late.
class KernelTest : public ::testing::TestWithParam<const Backend*> {
 protected:
  const Backend& backend() const { return *GetParam(); }
  /// What a row's partials say together, as one partial: its max is the log-sum-exp.
  SoftmaxPartial merge(const SoftmaxPartial* partials, int count, int stride) {
    SoftmaxPartial merged;
    backend().merge_partials(stream,
                             {.partials = partials, .count = count, .stride = stride, .rows = 1, .merged_R = &merged});
    return merged;
  }
  KernelTest() { stream.threads = 1; }
  Stream stream = stream_under_test();
};

}  // namespace slipway::testing_support
