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
inline int usual_padding(int cols) { return cols % 8 == 0 ? 8 : 3; }

/// A matrix whose rows are `padding` elements apart; the padding is NaN and must stay so.
class Grid {
 public:
  Grid(int rows, int cols) : Grid(rows, cols, usual_padding(cols)) {}
  Grid(int rows, int cols, int padding)
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
  std::vector<double> doubles() const {
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

/// Normal values of deviation `size`.
inline Grid normal(int rows, int cols, std::uint64_t seed, float size, int padding) {
  Grid grid(rows, cols, padding);
  const Random random(seed, stream_of("kernel tests"));
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < cols; ++c)
      grid.at(r, c) = size * random.normal(static_cast<std::uint64_t>(r) * static_cast<std::uint64_t>(cols) +
                                           static_cast<std::uint64_t>(c));
  return grid;
}

inline Grid normal(int rows, int cols, std::uint64_t seed, float size = 1.0f) {
  return normal(rows, cols, seed, size, usual_padding(cols));
}

/// Whole numbers in [low, high).
inline std::vector<int> integers(int count, int low, int high, std::uint64_t seed) {
  std::vector<int> values(static_cast<std::size_t>(count));
  const Random random(seed, stream_of("kernel tests"));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = low + static_cast<int>(random.below(static_cast<std::uint64_t>(high - low), i));
  return values;
}

/// Every element within `tolerance * max(1, |want|)`, and nothing written outside the columns.
inline void expect_close(const Grid& got, const std::vector<double>& want, double tolerance, const std::string& what) {
  ASSERT_EQ(want.size(), static_cast<std::size_t>(got.rows()) * static_cast<std::size_t>(got.cols())) << what;
  EXPECT_TRUE(got.padding_is_nan()) << what << ": wrote outside its columns";
  for (int r = 0; r < got.rows(); ++r)
    for (int c = 0; c < got.cols(); ++c) {
      const double expected =
          want[static_cast<std::size_t>(r) * static_cast<std::size_t>(got.cols()) + static_cast<std::size_t>(c)];
      ASSERT_NEAR(got.row(r)[c], expected, tolerance * std::max(1.0, std::abs(expected)))
          << what << " [" << got.rows() << ", " << got.cols() << "] at (" << r << ", " << c << ")";
    }
}

/// The same bits everywhere.
inline void expect_same_bits(const Grid& got, const Grid& want, const std::string& what) {
  ASSERT_EQ(got.rows(), want.rows()) << what;
  for (int r = 0; r < got.rows(); ++r)
    for (int c = 0; c < got.cols(); ++c)
      ASSERT_EQ(std::bit_cast<std::uint32_t>(got.row(r)[c]), std::bit_cast<std::uint32_t>(want.row(r)[c]))
          << what << " at (" << r << ", " << c << "): " << got.row(r)[c] << " and " << want.row(r)[c];
}

/// INSTANTIATE_TEST_SUITE_P(Backends, SomeTest, every_table(), table_name).
inline auto every_table() { return ::testing::ValuesIn(backends_under_test().begin(), backends_under_test().end()); }
inline std::string table_name(const ::testing::TestParamInfo<const Backend*>& info) {
  std::string name = join(info.param->name, "_", info.param->instructions, "_", info.param->gemm_library);
  for (char& letter : name) letter = letter == '-' ? '_' : letter;
  return name;
}

/// Sets the number of threads and puts the old number back.
class ThreadsGuard {
 public:
  explicit ThreadsGuard(int count) : before_(threads()) { set_threads(count); }
  ~ThreadsGuard() { set_threads(before_); }
  ThreadsGuard(const ThreadsGuard&) = delete;
  ThreadsGuard& operator=(const ThreadsGuard&) = delete;

 private:
  int before_;
};

/// Tests that run on every backend, with one thread unless they ask for more: a busy machine wakes a second one late.
class KernelTest : public ::testing::TestWithParam<const Backend*> {
 protected:
  const Backend& backend() const { return *GetParam(); }
  /// What a row's partials say together, as one partial: its max is the log-sum-exp.
  SoftmaxPartial joined(const SoftmaxPartial* partials, int count, int stride) {
    SoftmaxPartial whole;
    backend().merge_partials(stream,
                             {.partials = partials, .count = count, .stride = stride, .rows = 1, .merged_R = &whole});
    return whole;
  }
  Stream stream = stream_under_test();

 private:
  ThreadsGuard one_thread_{1};
};

}  // namespace slipway::testing_support
