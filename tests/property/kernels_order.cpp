// Sums have one order: not the threads, not the neighbours in a batch, not the tile around a row changes a bit.
#include <functional>
#include <thread>

#include "tests/support/test_matrix.hpp"

namespace slipway {
namespace {

using namespace testing_support;

using Results = std::vector<TestMatrix>;

class OrderTest : public KernelTest {
 protected:
  /// `run` must give the same bits with 1, 2 and 3 threads.
  void expect_same_for_any_threads(const char* what, const std::function<Results()>& run) {
    const Results expected = run();
    for (const int count : {2, 3}) {
      stream.threads = count;
      const Results actual = run();
      for (std::size_t i = 0; i < expected.size(); ++i)
        ASSERT_NO_FATAL_FAILURE(
            expect_same_bits(actual[i], expected[i], join(what, ", result ", i, ", ", count, " threads")));
    }
  }
};

constexpr int kRows = 301, kCols = 127;  // above the size below which one thread does all

TEST_P(OrderTest, OfRowOpsDoesNotDependOnThreads) {
  const TestMatrix x = normal(kRows, kCols, 1), up = normal(kRows, kCols, 2), dy = normal(kRows, kCols, 3),
                   gain = normal(1, kCols, 4);
  expect_same_for_any_threads("rms_norm", [&] {
    Results out = {TestMatrix(kRows, kCols), TestMatrix(kRows, kCols), gain};
    backend().rms_norm(stream, {.x_RD = x.view(), .gain_D = gain.row(0), .y_RD = out[0].view()});
    backend().rms_norm_grad(stream, {.x_RD = x.view(),
                                     .gain_D = gain.row(0),
                                     .dy_RD = dy.view(),
                                     .dx_RD = out[1].view(),
                                     .dgain_D = out[2].row(0)});
    return out;
  });
  expect_same_for_any_threads("layer_norm", [&] {
    Results out = {TestMatrix(kRows, kCols), TestMatrix(kRows, kCols), gain, gain};
    backend().layer_norm(stream, {x.view(), gain.row(0), gain.row(0), out[0].view()});
    backend().layer_norm_grad(stream, {x.view(), gain.row(0), dy.view(), out[1].view(), out[2].row(0), out[3].row(0)});
    return out;
  });
  expect_same_for_any_threads("gelu", [&] {
    Results out(3, TestMatrix(kRows, kCols));
    backend().gelu(stream, {x.view(), out[0].view()});
    backend().gelu_grad(stream, {x.view(), dy.view(), out[1].view(), out[2].view()});
    return out;
  });
  expect_same_for_any_threads("swiglu", [&] {
    Results out(3, TestMatrix(kRows, kCols));
    backend().swiglu(stream, {x.view(), up.view(), out[0].view()});
    backend().swiglu_grad(stream, {x.view(), up.view(), dy.view(), out[1].view(), out[2].view()});
    return out;
  });
  const std::vector<int> ids = integers(kRows, 0, 40, 5);
  expect_same_for_any_threads("embedding", [&] {
    Results out = {TestMatrix(kRows, kCols), TestMatrix(40, kCols)};
    backend().embedding(stream, {x.view().view_rows(0, 40), ids.data(), 0, out[0].view()});
    backend().embedding(stream, {up.view().view_rows(0, 40), ids.data(), 0, out[0].view(), /*accumulate=*/true});
    backend().embedding_grad(stream, {dy.view(), ids.data(), 0, out[1].view()});
    return out;
  });
  expect_same_for_any_threads("bias", [&] {
    Results out = {x, gain};
    backend().add_bias(stream, {gain.row(0), out[0].view()});
    backend().bias_grad(stream, {dy.view(), out[1].row(0)});
    return out;
  });
  expect_same_for_any_threads("cross_entropy", [&] {
    Results out = {x, TestMatrix(kRows, 3, 0)};
    static_assert(sizeof(SoftmaxPartial) == 3 * sizeof(float));
    std::vector<SoftmaxPartial> partials(kRows);
    backend().softmax_partials(stream, {x.view(), ids.data(), kCols - 2, partials.data(), out[0].view()});
    std::vector<float> lse;
    for (int r = 0; r < kRows; ++r) {
      const SoftmaxPartial& partial = partials[static_cast<std::size_t>(r)];
      out[1].at(r, 0) = partial.max, out[1].at(r, 1) = partial.sum, out[1].at(r, 2) = partial.target;
      lse.push_back(merge(&partial, 1, 1).max);
    }
    const std::vector<float> weight(kRows, 0.3f);
    backend().cross_entropy_grad(stream,
                                 {out[0].view(), ids.data(), partials.data(), lse.data(), weight.data(), kCols - 2});
    return out;
  });
}

TEST_P(OrderTest, OfRangeOpsDoesNotDependOnThreads) {
  constexpr int kSize = 100003;
  const std::size_t size = kSize;
  const TestMatrix x = normal(1, kSize, 1, 1.0f, 0);
  expect_same_for_any_threads("ranges", [&] {
    Results out = {x, x, x, TestMatrix(1, 1)};
    backend().add(stream, {.x = {x.view().data, size}, .y = {out[0].view().data, size}});
    backend().scale(stream, {.x = {out[0].view().data, size}, .factor = 0.3f});
    backend().adamw(stream, {.w = {out[1].view().data, size},
                             .g = {x.view().data, size},
                             .m = {out[2].view().data, size},
                             .v = {out[0].view().data, size},
                             .lr = 0.1f});
    double sum = 0;
    backend().sum_squares(stream, {.x = {x.view().data, size}, .result = &sum});
    out[3].at(0, 0) = static_cast<float>(std::ldexp(sum - std::floor(sum), 20));  // the low digits
    return out;
  });
}

/// Attention and its gradient over B sequences of T rows, with query and key rows from `first_row` on.
struct AttentionRun {
  static constexpr int kHeads = 3, kKvHeads = 2, kWidth = 24;
  TestMatrix q, k, v, dout;
  AttentionRun(int rows)
      : q(normal(rows, kHeads * kWidth, 1)),
        k(normal(rows, kKvHeads * kWidth, 2)),
        v(normal(rows, kKvHeads * kWidth, 3)),
        dout(normal(rows, kHeads * kWidth, 4)) {}

  AttentionShape shape(int B, int T, int S, int key_rows) const {
    return {.sequences = B,
            .queries = T,
            .keys = S,
            .key_rows = key_rows,
            .heads = kHeads,
            .kv_heads = kKvHeads,
            .head_width = kWidth,
            .queries_per_kv = 2,
            .scale = 0.2f};
  }
  TestMatrix forward(const Backend& backend, const AttentionShape& s, int first_query_row, int first_key_row,
                     TestMatrix* lse_out = nullptr) const {
    Stream stream{.threads = 1};
    const int rows = s.sequences * s.queries, key_rows = s.sequences * (s.key_rows == 0 ? s.keys : s.key_rows);
    TestMatrix out(rows, kHeads * kWidth), lse(rows, kHeads);
    backend.attention(stream,
                      {s, q.view().view_rows(first_query_row, rows), k.view().view_rows(first_key_row, key_rows),
                       v.view().view_rows(first_key_row, key_rows), out.view(), lse.view()});
    if (lse_out != nullptr) *lse_out = lse;
    return out;
  }
};

TestMatrix copy_rows(const TestMatrix& from, int first, int count) {
  TestMatrix rows(count, from.cols());
  for (int r = 0; r < count; ++r) std::copy_n(from.row(first + r), from.cols(), rows.row(r));
  return rows;
}

TEST_P(OrderTest, OfAttentionDoesNotDependOnThreads) {
  const int B = 2, T = 150;
  const AttentionRun run(B * T);
  expect_same_for_any_threads("attention", [&] {
    const AttentionShape s = run.shape(B, T, T, 0);
    TestMatrix lse(0, 0);
    const TestMatrix out = run.forward(backend(), s, 0, 0, &lse);
    Results results = {out, lse, TestMatrix(B * T, run.q.cols()), TestMatrix(B * T, run.k.cols()),
                       TestMatrix(B * T, run.k.cols())};
    backend().attention_grad(stream, {s, run.q.view(), run.k.view(), run.v.view(), out.view(), lse.view(),
                                      run.dout.view(), results[2].view(), results[3].view(), results[4].view()});
    return results;
  });
}

TEST_P(OrderTest, OfAttentionDoesNotDependOnTheOtherSequences) {
  const int B = 3, T = 101;
  const AttentionRun run(B * T);
  const TestMatrix full_output = run.forward(backend(), run.shape(B, T, T, 0), 0, 0);
  for (int b = 0; b < B; ++b)
    expect_same_bits(run.forward(backend(), run.shape(1, T, T, 0), b * T, b * T), copy_rows(full_output, b * T, T),
                     join("sequence ", b));
}

TEST_P(OrderTest, OfAttentionDoesNotDependOnTheOtherQueries) {
  const int T = 211;
  const AttentionRun run(T);
  const TestMatrix full_output = run.forward(backend(), run.shape(1, T, T, 0), 0, 0);
  for (const int keys : {1, 2, 47, 96, 97, 150, 211})
    for (const int queries : {1, 3, 20})
      if (queries <= keys)
        expect_same_bits(run.forward(backend(), run.shape(1, queries, keys, T), keys - queries, 0),
                         copy_rows(full_output, keys - queries, queries), join(queries, " queries at ", keys, " keys"));
}

TEST_P(OrderTest, OfAttentionDoesNotDependOnWhereTheOtherQueriesDocumentsBegin) {
  const int T = 211;
  const AttentionRun run(T);
  std::vector<int> key_start;
  for (int t = 0; t < T; ++t) key_start.push_back(t < 30 ? 0 : t < 110 ? 30 : t < 113 ? 110 : 113);
  AttentionShape s = run.shape(1, T, T, 0);
  s.key_start_BT = key_start.data();
  const TestMatrix full_output = run.forward(backend(), s, 0, 0);
  for (const int t : {0, 29, 30, 95, 96, 109, 110, 112, 113, 140, 191, 192, 210}) {
    AttentionShape single_query = run.shape(1, 1, t + 1, T);
    single_query.key_start_BT = &key_start[static_cast<std::size_t>(t)];
    expect_same_bits(run.forward(backend(), single_query, t, 0), copy_rows(full_output, t, 1), join("query ", t));
  }
}

TEST_P(OrderTest, OfAttentionDoesNotDependOnDocumentsBefore) {
  const int T = 200, first = 96;  // a document that begins where a tile does
  const AttentionRun run(T);
  std::vector<int> key_start;
  for (int t = 0; t < T; ++t) key_start.push_back(t < first ? 0 : first);
  AttentionShape s = run.shape(1, T, T, 0);
  s.key_start_BT = key_start.data();
  const TestMatrix full_output = run.forward(backend(), s, 0, 0);
  expect_same_bits(run.forward(backend(), run.shape(1, T - first, T - first, 0), first, first),
                   copy_rows(full_output, first, T - first), "the second document");
}

TEST_P(OrderTest, OfAFewRowsTimesWeightsDoesNotDependOnTheOtherRows) {
  const int N = 67, K = 131;
  const TestMatrix x = normal(8, K, 1), w = normal(N, K, 2);
  TestMatrix full_output(8, N);
  backend().matmul(stream, {.a = x.view(), .b = w.view(), .c = full_output.view(), .transpose_b = true});
  for (const int rows : {1, 2, 3, 5}) {
    TestMatrix small_batch_result(rows, N);
    backend().matmul(
        stream,
        {.a = x.view().view_rows(8 - rows, rows), .b = w.view(), .c = small_batch_result.view(), .transpose_b = true});
    ASSERT_NO_FATAL_FAILURE(
        expect_same_bits(small_batch_result, copy_rows(full_output, 8 - rows, rows), join(rows, " rows")));
  }
}

TEST_P(OrderTest, OfAFewRowsTimesWeightsDoesNotDependOnThreads) {
  const TestMatrix x = normal(5, 131, 1), w = normal(300, 131, 2);
  expect_same_for_any_threads("few rows", [&] {
    Results out = {TestMatrix(5, 300)};
    backend().matmul(stream, {.a = x.view(), .b = w.view(), .c = out[0].view(), .transpose_b = true});
    return out;
  });
}

TEST_P(OrderTest, OpsMayRunInSeveralThreadsAtOnce) {
  const int T = 64;
  const AttentionRun run(T);
  const TestMatrix x = normal(100, 60, 1), w = normal(70, 60, 2);
  const auto work = [&] {
    Results out = {run.forward(backend(), run.shape(1, T, T, 0), 0, 0), TestMatrix(100, 70), TestMatrix(60, 60)};
    Stream thread_stream;
    backend().matmul(thread_stream, {.a = x.view(), .b = w.view(), .c = out[1].view(), .transpose_b = true});
    backend().matmul(thread_stream, {.a = x.view(), .b = x.view(), .c = out[2].view(), .transpose_a = true});
    return out;
  };
  const Results expected = work();
  std::vector<Results> actual(4);
  {
    std::vector<std::jthread> runners;
    for (Results& thread_result : actual) runners.emplace_back([&] { thread_result = work(); });
  }
  for (const Results& results : actual)
    for (std::size_t i = 0; i < expected.size(); ++i)
      ASSERT_NO_FATAL_FAILURE(expect_same_bits(results[i], expected[i], join("result ", i)));
}

INSTANTIATE_TEST_SUITE_P(Backends, OrderTest, every_backend(), backend_name);

}  // namespace
}  // namespace slipway
