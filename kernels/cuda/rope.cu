#include "kernels/body/rope.hpp"

#include "kernels/checks.hpp"
#include "kernels/cuda/ops.cuh"
#include "kernels/cuda/rows.cuh"

namespace slipway::cuda {
namespace {

template <class A>
struct RopeRow {
  Rope op;
  template <class T>
  __device__ void operator()(const T& team, int v) const {
    body::rope<A>(team, op, v);
  }
};

}  // namespace

void rope(Stream& stream, const Rope& op) {
  check(op);
  dispatch_dtype(op.x_NHK.dtype, [&]<class A>(Type<A>) {
    for_each_row("rope", stream, op.x_NHK.rows * (op.x_NHK.cols / op.head_width), op.head_width / 2, RopeRow<A>{op});
  });
}

}  // namespace slipway::cuda
