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
  __device__ void operator()(const T& team, int n) const {
    body::rope<A>(team, op, n);
  }
};

}  // namespace

void rope(Stream& stream, const Rope& op) {
  check(op);
  by_type(op.x_NHK.dtype, [&]<class A>(Type<A>) {
    // By heads: a head's pairs leave no work for more than a warp.
    each_row("rope", stream, op.x_NHK.rows, op.head_width, RopeRow<A>{op});
  });
}

}  // namespace slipway::cuda
