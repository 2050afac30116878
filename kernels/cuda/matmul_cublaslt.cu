// Matmul by cublasLt: the only file that includes it.
#include <cublasLt.h>

#include <array>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend/device.hpp"
#include "kernels/checks.hpp"
#include "kernels/cuda/cuda_stream.cuh"
#include "kernels/cuda/ops.cuh"

namespace slipway::cuda {
namespace {

// Split-K is allowed only with a reduction in f32 and in a fixed order, by a separate kernel; never with the in-place
// reduction, whose order depends on timing.
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
using MatmulDesc = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

constexpr int kMaxTimed = 8;

cublasLtHandle_t library() {
  static const cublasLtHandle_t handle = [] {
    cublasLtHandle_t made = nullptr;
    check("cublasLtCreate", cublasLtCreate(&made));
    return made;
  }();
  return handle;
}

cudaDataType_t type_of(DType dtype) { return dtype == DType::kBf16 ? CUDA_R_16BF : CUDA_R_32F; }

/// The alignment in bytes, 16 at most, of all rows of a matrix.
template <class Rows>
std::uint32_t alignment_of(const Rows& m) {
  const std::uint64_t offsets = reinterpret_cast<std::uintptr_t>(m.data) |
                                (static_cast<std::uint64_t>(m.stride) * bytes_of(m.dtype)) | std::uint64_t{16};
  return static_cast<std::uint32_t>(offsets & (~offsets + 1));
}

/// cublasLt's C matrix, which is added to the product: the addend, else c itself.
ConstTensorView added_to(const MatMul& op) {
  return op.residual.data == nullptr ? ConstTensorView(op.c) : ConstTensorView(op.residual);
}

/// The key of a matmul's algorithm.
using Shape = std::array<std::int64_t, 16>;
Shape shape_of(const MatMul& op, const GemmShape& shape) {
  const ConstTensorView added = added_to(op);
  return {shape.M,
          shape.N,
          shape.K,
          op.transpose_a,
          op.transpose_b,
          addend_of(op).data != nullptr,
          static_cast<int>(op.a.dtype),
          static_cast<int>(op.c.dtype),
          op.a.stride,
          op.b.stride,
          op.c.stride,
          added.stride,
          alignment_of(op.a),
          alignment_of(op.b),
          alignment_of(op.c),
          alignment_of(added)};
}

/// A named struct, since nvcc needs one as the element type of containers.
struct Algorithm {
  cublasLtMatmulAlgo_t is{};
};

/// Algorithms read from a file or from another rank (adopt()).
std::map<Shape, Algorithm>& adopted() {
  static std::map<Shape, Algorithm>& all = *new std::map<Shape, Algorithm>;
  return all;
}

/// cublasLt is column-major, so it computes `c^T = op(b)^T op(a)^T`: b is its left operand and a its right one, with
/// the same transpose flags.
struct Plan {
  MatmulDesc matmul;
  Layout left, right, added, out;
  Algorithm algorithm;

  Plan(const MatMul& op, const GemmShape& shape) {
    check("cublasLtMatmulDescCreate", cublasLtMatmulDescCreate(&matmul.handle, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    const auto set_transpose = [&](cublasLtMatmulDescAttributes_t side, bool transpose) {
      const cublasOperation_t operation = transpose ? CUBLAS_OP_T : CUBLAS_OP_N;
      check("cublasLtMatmulDescSetAttribute",
            cublasLtMatmulDescSetAttribute(matmul.handle, side, &operation, sizeof operation));
    };
    set_transpose(CUBLASLT_MATMUL_DESC_TRANSA, op.transpose_b);
    set_transpose(CUBLASLT_MATMUL_DESC_TRANSB, op.transpose_a);
    const auto create_layout = [](Layout& layout, const auto& m) {
      check("cublasLtMatrixLayoutCreate",
            cublasLtMatrixLayoutCreate(&layout.handle, type_of(m.dtype), static_cast<std::uint64_t>(m.cols),
                                       static_cast<std::uint64_t>(m.rows), m.stride));
    };
    create_layout(left, op.b), create_layout(right, op.a);
    create_layout(added, added_to(op)), create_layout(out, op.c);

    const auto found = adopted().find(shape_of(op, shape));
    if (found != adopted().end() && supports(found->second)) algorithm = found->second;
    else algorithm = candidates(op, shape, 1).front();
  }

  /// The algorithms that cublasLt's heuristic proposes, best first: at least one, at most kMaxTimed.
  std::vector<Algorithm> candidates(const MatMul& op, const GemmShape& shape, int most) const {
    Preference preference;
    check("cublasLtMatmulPreferenceCreate", cublasLtMatmulPreferenceCreate(&preference.handle));
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t what, auto value) {
      check("cublasLtMatmulPreferenceSetAttribute",
            cublasLtMatmulPreferenceSetAttribute(preference.handle, what, &value, sizeof value));
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{kGemmWorkspaceBytes});
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, kReductions);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(op.b));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(op.a));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(added_to(op)));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(op.c));
    cublasLtMatmulHeuristicResult_t results[kMaxTimed] = {};
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(library(), matmul.handle, left.handle, right.handle, added.handle, out.handle,
                                       preference.handle, most, results, &count);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) check("cublasLtMatmulAlgoGetHeuristic", status);
    std::vector<Algorithm> supported;
    for (int i = 0; i < count; ++i)
      if (results[i].state == CUBLAS_STATUS_SUCCESS) supported.push_back({results[i].algo});
    if (supported.empty())
      throw Error(Fault::kDevice, join("cublasLt has no algorithm for [", shape.M, ", ", shape.K, "] times [", shape.K,
                                       ", ", shape.N, "] in ", name(op.a.dtype)));
    return supported;
  }

  void run(const CudaStream& queue, void* workspace, const MatMul& op, const Algorithm& with) const {
    const float alpha = 1.0f, beta = addend_of(op).data == nullptr ? 0.0f : 1.0f;
    check("cublasLtMatmul", cublasLtMatmul(library(), matmul.handle, &alpha, op.b.data, left.handle, op.a.data,
                                           right.handle, &beta, added_to(op).data, added.handle, op.c.data, out.handle,
                                           &with.is, workspace, kGemmWorkspaceBytes, queue.stream()));
  }

 private:
  bool supports(const Algorithm& one) const {
    cublasLtMatmulHeuristicResult_t result{};
    return cublasLtMatmulAlgoCheck(library(), matmul.handle, left.handle, right.handle, added.handle, out.handle,
                                   &one.is, &result) == CUBLAS_STATUS_SUCCESS &&
           result.workspaceSize <= kGemmWorkspaceBytes;
  }
};

/// One plan per shape, kept until the program ends: a shape always uses the same algorithm.
std::map<Shape, Plan>& plans() {
  static std::map<Shape, Plan>& all = *new std::map<Shape, Plan>;
  return all;
}
std::mutex& plans_mutex() {
  static std::mutex mutex;
  return mutex;
}
Plan& plan_of(const MatMul& op, const GemmShape& shape) {
  const std::lock_guard lock(plans_mutex());
  return plans().try_emplace(shape_of(op, shape), op, shape).first->second;
}

/// Milliseconds of one run: the best of kRuns after a warm-up run.
float time_of(const Plan& plan, const MatMul& op, const Algorithm& algorithm) {
  constexpr int kRuns = 3;
  CudaStream& queue = main_stream();
  void* workspace = queue.workspace(kGemmWorkspaceBytes);
  cudaEvent_t begin = nullptr, end = nullptr;
  cuda::check("cudaEventCreateWithFlags", cudaEventCreateWithFlags(&begin, cudaEventDefault));
  cuda::check("cudaEventCreateWithFlags", cudaEventCreateWithFlags(&end, cudaEventDefault));
  float best = 0;
  for (int run = 0; run <= kRuns; ++run) {
    float milliseconds = 0;
    cuda::check("cudaEventRecord", cudaEventRecord(begin, queue.stream()));
    plan.run(queue, workspace, op, algorithm);
    cuda::check("cudaEventRecord", cudaEventRecord(end, queue.stream()));
    queue.finish();
    cuda::check("cudaEventElapsedTime", cudaEventElapsedTime(&milliseconds, begin, end));
    if (run == 1 || (run > 1 && milliseconds < best)) best = milliseconds;
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return best;
}

void time_algorithms(const MatMul& op) {
  const GemmShape shape = slipway::check(op);
  if (shape.M == 0 || shape.N == 0 || shape.K == 0) return;
  Plan& plan = plan_of(op, shape);
  float best = 0;
  for (const Algorithm& one : plan.candidates(op, shape, kMaxTimed)) {
    const float milliseconds = time_of(plan, op, one);
    if (best == 0 || milliseconds < best) best = milliseconds, plan.algorithm = one;
  }
}

/// The library version and the GPU that the algorithms are valid for.
std::string version_line() {
  int device = 0;
  cudaDeviceProp gpu;
  cuda::check("cudaGetDevice", cudaGetDevice(&device));
  cuda::check("cudaGetDeviceProperties", cudaGetDeviceProperties(&gpu, device));
  return join("cublasLt ", cublasLtGetVersion(), " on ", gpu.name);
}

std::string describe(const Algorithm& algorithm) {
  constexpr std::pair<cublasLtMatmulAlgoConfigAttributes_t, const char*> kParts[] = {
      {CUBLASLT_ALGO_CONFIG_ID, "algorithm"},
      {CUBLASLT_ALGO_CONFIG_TILE_ID, "tile"},
      {CUBLASLT_ALGO_CONFIG_STAGES_ID, "stages"},
      {CUBLASLT_ALGO_CONFIG_SPLITK_NUM, "parts of k"},
      {CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, "reduction"}};
  std::string text;
  for (const auto& [what, called] : kParts) {
    int value = 0;
    std::size_t written = 0;
    if (cublasLtMatmulAlgoConfigGetAttribute(&algorithm.is, what, &value, sizeof value, &written) ==
        CUBLAS_STATUS_SUCCESS)
      text += join(text.empty() ? "" : ", ", called, " ", value);
  }
  return text;
}

std::string lines() {
  const std::lock_guard lock(plans_mutex());
  std::map<Shape, Algorithm> chosen = adopted();
  for (const auto& [shape, plan] : plans()) chosen[shape] = plan.algorithm;
  std::string text = version_line() + "\n";
  for (const auto& [shape, algorithm] : chosen) {
    for (const std::int64_t number : shape) text += join(number, " ");
    for (const std::uint64_t word : algorithm.is.data) text += join(word, " ");
    text += join("# [", shape[0], ", ", shape[2], "] x [", shape[2], ", ", shape[1], "] ",
                 name(static_cast<DType>(shape[6])), ": ", describe(algorithm), "\n");
  }
  return text;
}

void adopt(const std::string& text) {
  std::istringstream all(text);
  std::string line;
  std::getline(all, line);
  if (line != version_line())
    throw Error(Fault::kDevice,
                join("these choices of algorithms were made with '", line, "', and this is '", version_line(),
                     "': remove gemm_algorithms.txt from the run's folder to choose anew"));
  const std::lock_guard lock(plans_mutex());
  while (std::getline(all, line)) {
    std::istringstream numbers(line);
    Shape shape{};
    Algorithm algorithm;
    for (std::int64_t& number : shape) numbers >> number;
    for (auto& word : algorithm.is.data) numbers >> word;
    if (!numbers) throw Error(Fault::kDevice, join("no choice of an algorithm: '", line, "'"));
    adopted()[shape] = algorithm;
    plans().erase(shape);
  }
}

}  // namespace

const GemmAutotuner* gemm_autotuner() {
  static const GemmAutotuner choices{.time = time_algorithms, .lines = lines, .adopt = adopt};
  return &choices;
}

void matmul_cublaslt(Stream& stream, const MatMul& op) {
  const GemmShape shape = slipway::check(op);
  if (shape.M == 0 || shape.N == 0) return;
  if (shape.K == 0) return matmul_loops(stream, op);  // cublasLt refuses K = 0: c becomes 0, or is unchanged
  const Plan& plan = plan_of(op, shape);
  CudaStream& queue = cuda_stream_of(stream);
  plan.run(queue, queue.workspace(kGemmWorkspaceBytes), op, plan.algorithm);
}

}  // namespace slipway::cuda
