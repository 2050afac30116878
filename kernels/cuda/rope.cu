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
    each_row_by_warps("rope", stream, op.x_NHK.rows, RopeRow<A>{op});  // a head's pairs are no work for more
  });
}

}  // namespace slipway::cuda
