// Matrix products by cublasLt. Everything that knows cuBLAS stands in this file.
#include <cublasLt.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

#include "kernels/checks.hpp"
#include "kernels/cuda/ops.cuh"
#include "kernels/cuda/queue.cuh"
#include "kernels/device.hpp"

namespace slipway::cuda {
namespace {

// Sums over k are cut into parts only where these are added in f32 and in a fixed order, by a kernel of their own:
// never in place, where the order is that of arrival.
constexpr std::uint32_t kReductions = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;

void check(const char* what, cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(Fault::kDevice, join(what, ": ", cublasLtGetStatusName(status), ", ", cublasLtGetStatusString(status)));
}

/// One cublasLt object, freed with its owner.
template <class Handle, cublasStatus_t (*kDestroy)(Handle)>
struct Owned {
  Handle handle = nullptr;
  Owned() = default;
  ~Owned() {
    if (handle != nullptr) kDestroy(handle);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
};
using Product = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

cublasLtHandle_t library() {
  static const cublasLtHandle_t handle = [] {
    cublasLtHandle_t made = nullptr;
    check("cublasLtCreate", cublasLtCreate(&made));
    return made;
  }();
  return handle;
}

cudaDataType_t type_of(DType dtype) { return dtype == DType::kBf16 ? CUDA_R_16BF : CUDA_R_32F; }

/// The largest power of two, up to 16, that all rows of a matrix begin at a multiple of.
template <class Rows>
std::uint32_t alignment_of(const Rows& m) {
  const std::uint64_t places = reinterpret_cast<std::uintptr_t>(m.data) |
                               (static_cast<std::uint64_t>(m.stride) * bytes_of(m.dtype)) | std::uint64_t{16};
  return static_cast<std::uint32_t>(places & (~places + 1));
}

/// What decides which algorithm a product takes.
using Shape = std::tuple<int, int, int, bool, bool, bool, DType, DType, std::int64_t, std::int64_t, std::int64_t,
                         std::uint32_t, std::uint32_t, std::uint32_t>;

/// cublasLt counts columns first: to it our c is its transposition, `c^T = op(b)^T op(a)^T`, and a matrix that we store
/// untransposed is so to it as well. So b is its left operand, and a its right one.
struct Plan {
  Product product;
  Layout left, right, out;
  cublasLtMatmulAlgo_t algorithm{};

  Plan(const MatMul& op, const ProductShape& shape) {
    check("cublasLtMatmulDescCreate", cublasLtMatmulDescCreate(&product.handle, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    const auto turn = [&](cublasLtMatmulDescAttributes_t side, bool transpose) {
      const cublasOperation_t operation = transpose ? CUBLAS_OP_T : CUBLAS_OP_N;
      check("cublasLtMatmulDescSetAttribute",
            cublasLtMatmulDescSetAttribute(product.handle, side, &operation, sizeof operation));
    };
    turn(CUBLASLT_MATMUL_DESC_TRANSA, op.transpose_b);
    turn(CUBLASLT_MATMUL_DESC_TRANSB, op.transpose_a);
    const auto lay = [](Layout& layout, const auto& m) {
      check("cublasLtMatrixLayoutCreate",
            cublasLtMatrixLayoutCreate(&layout.handle, type_of(m.dtype), static_cast<std::uint64_t>(m.cols),
                                       static_cast<std::uint64_t>(m.rows), m.stride));
    };
    lay(left, op.b), lay(right, op.a), lay(out, op.c);

    Preference preference;
    check("cublasLtMatmulPreferenceCreate", cublasLtMatmulPreferenceCreate(&preference.handle));
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t what, auto value) {
      check("cublasLtMatmulPreferenceSetAttribute",
            cublasLtMatmulPreferenceSetAttribute(preference.handle, what, &value, sizeof value));
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{kProductWorkspaceBytes});
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, kReductions);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(op.b));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(op.a));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(op.c));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(op.c));
    cublasLtMatmulHeuristicResult_t best{};
    int count = 0;
    const cublasStatus_t asked =
        cublasLtMatmulAlgoGetHeuristic(library(), product.handle, left.handle, right.handle, out.handle, out.handle,
                                       preference.handle, 1, &best, &count);
    if (asked != CUBLAS_STATUS_NOT_SUPPORTED) check("cublasLtMatmulAlgoGetHeuristic", asked);
    if (count == 0 || best.state != CUBLAS_STATUS_SUCCESS)
      throw Error(Fault::kDevice, join("cublasLt has no algorithm for [", shape.M, ", ", shape.K, "] times [", shape.K,
                                       ", ", shape.N, "] in ", name(op.a.dtype)));
    algorithm = best.algo;
  }
};

/// One plan for each shape met, for as long as the program runs: the same shape takes the same algorithm.
const Plan& plan_of(const MatMul& op, const ProductShape& shape) {
  static std::map<Shape, Plan>& plans = *new std::map<Shape, Plan>;
  static std::mutex mutex;
  const Shape key{
      shape.M,    shape.N,     shape.K,     op.transpose_a, op.transpose_b,     op.accumulate,      op.a.dtype,
      op.c.dtype, op.a.stride, op.b.stride, op.c.stride,    alignment_of(op.a), alignment_of(op.b), alignment_of(op.c)};
  const std::lock_guard lock(mutex);
  return plans.try_emplace(key, op, shape).first->second;
}

}  // namespace

void matmul_cublaslt(Stream& stream, const MatMul& op) {
  const ProductShape shape = slipway::check(op);
  if (shape.M == 0 || shape.N == 0) return;
  if (shape.K == 0) return matmul_loops(stream, op);  // which cublasLt refuses: c is 0, or stays
  const Plan& plan = plan_of(op, shape);
  Queue& queue = queue_of(stream);
  const float alpha = 1.0f, beta = op.accumulate ? 1.0f : 0.0f;
  check("cublasLtMatmul", cublasLtMatmul(library(), plan.product.handle, &alpha, op.b.data, plan.left.handle, op.a.data,
                                         plan.right.handle, &beta, op.c.data, plan.out.handle, op.c.data,
                                         plan.out.handle, &plan.algorithm, queue.workspace(kProductWorkspaceBytes),
                                         kProductWorkspaceBytes, queue.stream()));
}

}  // namespace slipway::cuda
