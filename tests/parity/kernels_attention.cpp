// Attention of every backend against f64 loops.
#include "tests/support/kernels_oracle.hpp"
#include "tests/support/test_matrix.hpp"

namespace slipway {
namespace {

using namespace testing_support;
using oracle::F64Vector;

/// One case: a shape and where documents begin (the chance in percent that a row begins one).
struct Case {
  AttentionShape shape;
  int document_percent = 0;
};

/// Inputs and outputs of one case.
struct Problem {
  AttentionShape shape;
  std::vector<int> key_start;
  TestMatrix q, k, v, dout, out, lse, dq, dk, dv;

  static int key_rows(const AttentionShape& s) { return s.key_rows == 0 ? s.keys : s.key_rows; }
  Problem(const Case& c, std::uint64_t seed)
      : shape(c.shape),
        q(normal(rows_q(), shape.heads * shape.head_width, seed)),
        k(normal(shape.sequences * key_rows(shape), shape.kv_heads * shape.head_width, seed + 1)),
        v(normal(shape.sequences * key_rows(shape), shape.kv_heads * shape.head_width, seed + 2)),
        dout(normal(rows_q(), shape.heads * shape.head_width, seed + 3)),
        out(rows_q(), shape.heads * shape.head_width),
        lse(rows_q(), shape.heads),
        dq(rows_q(), shape.heads * shape.head_width),
        dk(k.rows(), k.cols()),
        dv(k.rows(), k.cols()) {
    shape.scale = 1.0f / std::sqrt(static_cast<float>(shape.head_width));
    if (c.document_percent == 0) return;
    const std::vector<int> rolls = integers(rows_q(), 0, 100, seed + 4);
    for (int b = 0; b < shape.sequences; ++b)
      for (int t = 0; t < shape.queries; ++t) {
        const std::size_t row = static_cast<std::size_t>(b * shape.queries + t);
        const int earlier = t == 0 ? 0 : key_start[row - 1];
        key_start.push_back(rolls[row] < c.document_percent ? t + shape.keys - shape.queries : earlier);
      }
    shape.key_start_BT = key_start.data();
  }
  int rows_q() const { return shape.sequences * shape.queries; }
  Attention forward() { return {shape, q.view(), k.view(), v.view(), out.view(), lse.view()}; }
  AttentionGrad backward() {
    return {shape, q.view(), k.view(), v.view(), out.view(), lse.view(), dout.view(), dq.view(), dk.view(), dv.view()};
  }
};

std::string case_text(const Case& c) {
  const AttentionShape& s = c.shape;
  return join("B=", s.sequences, " T=", s.queries, " S=", s.keys, " rows=", s.key_rows, " H=", s.heads,
              " G=", s.kv_heads, " K=", s.head_width, " queries_per_kv=", s.queries_per_kv,
              " first_head=", s.first_head, " documents=", c.document_percent, "%");
}

// Scores are sums of K products near 1 over sqrt(K), rounded K times: about 2^-24 * sqrt(K) each; a weight's relative
// error is its score's absolute one; outputs average values near 1. Gradients add up to T such terms of mixed sign.
constexpr double kTolerance = 1e-5;
constexpr double kGradTolerance = 4e-5;

const std::vector<Case> kTraining = {
    {{.sequences = 1, .queries = 1, .keys = 1, .heads = 1, .kv_heads = 1, .head_width = 1}},
    {{.sequences = 2, .queries = 33, .keys = 33, .heads = 3, .kv_heads = 3, .head_width = 8}},
    {{.sequences = 1, .queries = 127, .keys = 127, .heads = 4, .kv_heads = 2, .head_width = 32, .queries_per_kv = 2}},
    {{.sequences = 2, .queries = 97, .keys = 97, .heads = 3, .kv_heads = 1, .head_width = 40, .queries_per_kv = 3}, 5},
    {{.sequences = 2, .queries = 200, .keys = 200, .heads = 2, .kv_heads = 2, .head_width = 16}, 2},
    {{.sequences = 1, .queries = 145, .keys = 145, .heads = 2, .kv_heads = 1, .head_width = 64, .queries_per_kv = 2},
     30},
    {{.sequences = 1, .queries = 64, .keys = 64, .heads = 2, .kv_heads = 2, .head_width = 33}, 5},
    {{.sequences = 1, .queries = 50, .keys = 50, .heads = 1, .kv_heads = 1, .head_width = 128}},
    {{.sequences = 1,
      .queries = 31,
      .keys = 31,
      .heads = 5,
      .kv_heads = 2,
      .head_width = 7,
      .queries_per_kv = 2}},  // head 4 is
                              // padding
    {{.sequences = 1,
      .queries = 49,
      .keys = 49,
      .heads = 4,
      .kv_heads = 2,
      .head_width = 24,
      .queries_per_kv = 3,
      .first_head = 2},
     4},
    {{.sequences = 3, .queries = 0, .keys = 0, .heads = 2, .kv_heads = 1, .head_width = 8, .queries_per_kv = 2}},
};

const std::vector<Case> kDecoding = {
    {{.sequences = 3,
      .queries = 1,
      .keys = 1,
      .key_rows = 9,
      .heads = 2,
      .kv_heads = 1,
      .head_width = 16,
      .queries_per_kv = 2}},
    {{.sequences = 2,
      .queries = 1,
      .keys = 130,
      .key_rows = 160,
      .heads = 4,
      .kv_heads = 2,
      .head_width = 32,
      .queries_per_kv = 2}},
    {{.sequences = 1, .queries = 5, .keys = 103, .heads = 3, .kv_heads = 3, .head_width = 33}},
    {{.sequences = 2,
      .queries = 60,
      .keys = 260,
      .key_rows = 300,
      .heads = 2,
      .kv_heads = 1,
      .head_width = 64,
      .queries_per_kv = 2},
     3},
};

class AttentionTest : public KernelTest {
 protected:
  void expect_forward(const Case& c) {
    Problem problem(c, 11);
    backend().attention(stream, problem.forward());
    F64Vector out, lse;
    oracle::attention(problem.shape, problem.q.to_f64(), problem.k.to_f64(), problem.v.to_f64(), out, lse);
    expect_close(problem.out, out, kTolerance, case_text(c) + " out");
    expect_close(problem.lse, lse, kTolerance, case_text(c) + " lse");
  }
};

TEST_P(AttentionTest, MatchesDoublePrecisionInTraining) {
  for (const Case& c : kTraining) ASSERT_NO_FATAL_FAILURE(expect_forward(c));
}

TEST_P(AttentionTest, MatchesDoublePrecisionWithACacheOfKeys) {
  for (const Case& c : kDecoding) ASSERT_NO_FATAL_FAILURE(expect_forward(c));
}

TEST_P(AttentionTest, GradientMatchesDoublePrecision) {
  for (const Case& c : kTraining) {
    Problem problem(c, 23);
    backend().attention(stream, problem.forward());
    for (const int count : {1, 3}) {  // one thread takes whole heads, three threads take tiles
      stream.threads = count;
      backend().attention_grad(stream, problem.backward());
      F64Vector dq, dk, dv;
      oracle::attention_grad(problem.shape, problem.q.to_f64(), problem.k.to_f64(), problem.v.to_f64(),
                             problem.dout.to_f64(), dq, dk, dv);
      expect_close(problem.dq, dq, kGradTolerance, case_text(c) + " dq");
      expect_close(problem.dk, dk, kGradTolerance, case_text(c) + " dk");
      expect_close(problem.dv, dv, kGradTolerance, case_text(c) + " dv");
    }
  }
}

TEST_P(AttentionTest, StaysExactWhereScoresAreHuge) {
  Case c{{.sequences = 1, .queries = 40, .keys = 40, .heads = 1, .kv_heads = 1, .head_width = 8}};
  Problem problem(c, 31);
  for (int r = 0; r < problem.q.rows(); ++r)
    for (int d = 0; d < problem.q.cols(); ++d)
      problem.q.at(r, d) *= 1000.0f;  // scores near 1000: exp alone would overflow
  backend().attention(stream, problem.forward());
  F64Vector out, lse;
  oracle::attention(problem.shape, problem.q.to_f64(), problem.k.to_f64(), problem.v.to_f64(), out, lse);
  constexpr double kHugeTolerance =
      2e-3;  // scores near 1000 carry an error near 1e-4, which is a weight's relative error
  expect_close(problem.out, out, kHugeTolerance, "out");
}

TEST_P(AttentionTest, LetsNaNThrough) {
  Case c{{.sequences = 1, .queries = 20, .keys = 20, .heads = 1, .kv_heads = 1, .head_width = 8}};
  Problem problem(c, 37);
  problem.q.at(3, 2) = std::numeric_limits<float>::quiet_NaN();
  backend().attention(stream, problem.forward());
  EXPECT_TRUE(std::isnan(problem.out.at(3, 0)));
  EXPECT_TRUE(std::isfinite(problem.out.at(2, 0)));
  EXPECT_TRUE(std::isfinite(problem.out.at(4, 0)));
}

TEST_P(AttentionTest, RefusesShapesThatDisagree) {
  Case c{{.sequences = 1, .queries = 4, .keys = 4, .heads = 2, .kv_heads = 1, .head_width = 8, .queries_per_kv = 2}};
  Problem problem(c, 41);
  Attention op = problem.forward();
  op.k_SGK = op.k_SGK.as<float>().view_cols(0, 7);
  try {
    backend().attention(stream, op);
    FAIL() << "took keys of 7 columns";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kBug);
    EXPECT_NE(std::string(error.what()).find("k [4, 7]"), std::string::npos) << error.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, AttentionTest, every_backend(), backend_name);

}  // namespace
}  // namespace slipway
