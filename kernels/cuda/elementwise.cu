#include "kernels/body/elementwise.hpp"

#include "kernels/checks.hpp"
#include "kernels/cuda/ops.cuh"
#include "kernels/cuda/rows.cuh"

namespace slipway::cuda {
namespace {

struct AddChunk {
  Add op;
  template <class T>
  __device__ void operator()(const T& team, std::size_t first, int count) const {
    body::add(team, op, first, count);
  }
};
struct ScaleChunk {
  Scale op;
  template <class T>
  __device__ void operator()(const T& team, std::size_t first, int count) const {
    body::scale(team, op, first, count);
  }
};
template <class A>
struct AddBiasRow {
  AddBias op;
  template <class T>
  __device__ void operator()(const T& team, int r) const {
    body::add_bias<A>(team, op, r);
  }
};
template <class A>
struct BiasGradRow {
  BiasGrad op;
  template <class T>
  __device__ void operator()(const T& team, int r, float* dbias_D) const {
    body::bias_grad<A>(team, op, r, dbias_D);
  }
};
template <class A>
struct CopyRow {
  Copy op;
  template <class T>
  __device__ void operator()(const T& team, int r) const {
    body::copy<A>(team, op, r);
  }
};
template <class A>
struct ClearRow {
  Clear op;
  template <class T>
  __device__ void operator()(const T& team, int r) const {
    body::clear<A>(team, op, r);
  }
};
struct ToBf16Row {
  ToBf16 op;
  template <class T>
  __device__ void operator()(const T& team, int r) const {
    body::to_bf16(team, op, r);
  }
};

}  // namespace

void add(Stream& stream, const Add& op) {
  check(op);
  for_each_chunk("add", stream, op.y.size(), AddChunk{op});
}

void scale(Stream& stream, const Scale& op) { for_each_chunk("scale", stream, op.x.size(), ScaleChunk{op}); }

void add_bias(Stream& stream, const AddBias& op) {
  dispatch_dtype(op.y_RD.dtype, [&]<class A>(Type<A>) {
    for_each_row("add_bias", stream, op.y_RD.rows, op.y_RD.cols, AddBiasRow<A>{op});
  });
}

void bias_grad(Stream& stream, const BiasGrad& op) {
  dispatch_dtype(op.dy_RD.dtype, [&]<class A>(Type<A>) {
    sum_rows("bias_grad", stream, op.dy_RD.rows, op.dy_RD.cols, {op.dbias_D}, BiasGradRow<A>{op});
  });
}

void copy(Stream& stream, const Copy& op) {
  check(op);
  dispatch_dtype(op.x_RD.dtype,
                 [&]<class A>(Type<A>) { for_each_row("copy", stream, op.x_RD.rows, op.x_RD.cols, CopyRow<A>{op}); });
}

void clear(Stream& stream, const Clear& op) {
  dispatch_dtype(op.x_RD.dtype,
                 [&]<class A>(Type<A>) { for_each_row("clear", stream, op.x_RD.rows, op.x_RD.cols, ClearRow<A>{op}); });
}

void to_bf16(Stream& stream, const ToBf16& op) {
  check(op);
  for_each_row("to_bf16", stream, op.x_RD.rows, op.x_RD.cols, ToBf16Row{op});
}

}  // namespace slipway::cuda
