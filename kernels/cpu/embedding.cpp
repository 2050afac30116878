#include "kernels/body/embedding.hpp"

#include "kernels/checks.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/parallel.hpp"

namespace slipway::cpu {

void embedding(Stream& stream, const Embedding& op) {
  check(op);
  const int rows = op.y_ND.rows, cols = op.y_ND.cols;
  if (op.accumulate)
    return for_each_row(stream, rows, cols, [&](int n) { body::embedding<true>(SerialTeam{}, op, n); });
  for_each_row(stream, rows, cols, [&](int n) { body::embedding<false>(SerialTeam{}, op, n); });
}

void embedding_grad(Stream& stream, const EmbeddingGrad& op) {
  check(op);
  constexpr std::size_t kBlockColumns = 64;  // one thread adds all tokens of a block of columns, in order
  for_each_block(stream, static_cast<std::size_t>(op.dy_ND.cols), kBlockColumns, op.dy_ND.rows,
                 [&](std::int64_t, std::size_t first, int count) {
                   for (int n = 0; n < op.dy_ND.rows; ++n)
                     body::embedding_grad(SerialTeam{}, op, n, static_cast<int>(first), count);
                 });
}

}  // namespace slipway::cpu
