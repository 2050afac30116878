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
constexpr std::uint32_t kReductionSchemes = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;

void check(const char* what, cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(Fault::kDevice, join(what, ": ", cublasLtGetStatusName(status), ", ", cublasLtGetStatusString(status)));
}

/// One cublasLt object, freed with its owner.
template <class Handle, cublasStatus_t (*kDestroy)(Handle)>
struct UniqueHandle {
  Handle handle = nullptr;
  UniqueHandle() = default;
  ~UniqueHandle() {
    if (handle != nullptr) kDestroy(handle);
  }
  UniqueHandle(const UniqueHandle&) = delete;
  UniqueHandle& operator=(const UniqueHandle&) = delete;
};
using MatmulDesc = UniqueHandle<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = UniqueHandle<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = UniqueHandle<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

constexpr int kMaxCandidates = 8;

cublasLtHandle_t lt_handle() {
  static const cublasLtHandle_t handle = [] {
    cublasLtHandle_t created = nullptr;
    check("cublasLtCreate", cublasLtCreate(&created));
    return created;
  }();
  return handle;
}

cudaDataType_t cuda_type(DType dtype) { return dtype == DType::kBf16 ? CUDA_R_16BF : CUDA_R_32F; }

/// The alignment in bytes, 16 at most, of all rows of a matrix.
template <class Rows>
std::uint32_t alignment_of(const Rows& m) {
  const std::uint64_t offsets = reinterpret_cast<std::uintptr_t>(m.data) |
                                (static_cast<std::uint64_t>(m.stride) * bytes_of(m.dtype)) | std::uint64_t{16};
  return static_cast<std::uint32_t>(offsets & (~offsets + 1));
}

/// cublasLt's C matrix, which is added to the product: the residual, else c itself.
ConstTensorView residual_or_c(const MatMul& op) {
  return op.residual.data == nullptr ? ConstTensorView(op.c) : ConstTensorView(op.residual);
}

/// The key of a matmul's algorithm.
using MatmulKey = std::array<std::int64_t, 16>;
MatmulKey matmul_key(const MatMul& op, const GemmShape& shape) {
  const ConstTensorView residual = residual_or_c(op);
  return {shape.M,
          shape.N,
          shape.K,
          op.transpose_a,
          op.transpose_b,
          residual_of(op).data != nullptr,
          static_cast<int>(op.a.dtype),
          static_cast<int>(op.c.dtype),
          op.a.stride,
          op.b.stride,
          op.c.stride,
          residual.stride,
          alignment_of(op.a),
          alignment_of(op.b),
          alignment_of(op.c),
          alignment_of(residual)};
}

/// A named struct, since nvcc needs one as the element type of containers.
struct Algorithm {
  cublasLtMatmulAlgo_t algo{};
};

/// Algorithms read from a file or from another rank (load()).
std::map<MatmulKey, Algorithm>& loaded_algorithms() {
  static std::map<MatmulKey, Algorithm>& instance = *new std::map<MatmulKey, Algorithm>;
  return instance;
}

/// cublasLt is column-major, so it computes `c^T = op(b)^T op(a)^T`: b is its left operand and a its right one, with
/// the same transpose flags.
struct Plan {
  MatmulDesc matmul;
  Layout left, right, residual, out;
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
            cublasLtMatrixLayoutCreate(&layout.handle, cuda_type(m.dtype), static_cast<std::uint64_t>(m.cols),
                                       static_cast<std::uint64_t>(m.rows), m.stride));
    };
    create_layout(left, op.b), create_layout(right, op.a);
    create_layout(residual, residual_or_c(op)), create_layout(out, op.c);

    const auto found = loaded_algorithms().find(matmul_key(op, shape));
    if (found != loaded_algorithms().end() && supports(found->second)) algorithm = found->second;
    else algorithm = candidates(op, shape, 1).front();
  }

  /// The algorithms that cublasLt's heuristic proposes, best first: at least one, at most kMaxCandidates.
  std::vector<Algorithm> candidates(const MatMul& op, const GemmShape& shape, int max_count) const {
    Preference preference;
    check("cublasLtMatmulPreferenceCreate", cublasLtMatmulPreferenceCreate(&preference.handle));
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t what, auto value) {
      check("cublasLtMatmulPreferenceSetAttribute",
            cublasLtMatmulPreferenceSetAttribute(preference.handle, what, &value, sizeof value));
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{kGemmWorkspaceBytes});
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, kReductionSchemes);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(op.b));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(op.a));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(residual_or_c(op)));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(op.c));
    cublasLtMatmulHeuristicResult_t results[kMaxCandidates] = {};
    int count = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(lt_handle(), matmul.handle, left.handle, right.handle, residual.handle,
                                       out.handle, preference.handle, max_count, results, &count);
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) check("cublasLtMatmulAlgoGetHeuristic", status);
    std::vector<Algorithm> supported;
    for (int i = 0; i < count; ++i)
      if (results[i].state == CUBLAS_STATUS_SUCCESS) supported.push_back({results[i].algo});
    if (supported.empty())
      throw Error(Fault::kDevice, join("cublasLt has no algorithm for [", shape.M, ", ", shape.K, "] times [", shape.K,
                                       ", ", shape.N, "] in ", name(op.a.dtype)));
    return supported;
  }

  void run(const CudaStream& queue, void* workspace, const MatMul& op, const Algorithm& selected) const {
    const float alpha = 1.0f, beta = residual_of(op).data == nullptr ? 0.0f : 1.0f;
    check("cublasLtMatmul", cublasLtMatmul(lt_handle(), matmul.handle, &alpha, op.b.data, left.handle, op.a.data,
                                           right.handle, &beta, residual_or_c(op).data, residual.handle, op.c.data,
                                           out.handle, &selected.algo, workspace, kGemmWorkspaceBytes, queue.stream()));
  }

 private:
  bool supports(const Algorithm& candidate) const {
    cublasLtMatmulHeuristicResult_t result{};
    return cublasLtMatmulAlgoCheck(lt_handle(), matmul.handle, left.handle, right.handle, residual.handle, out.handle,
                                   &candidate.algo, &result) == CUBLAS_STATUS_SUCCESS &&
           result.workspaceSize <= kGemmWorkspaceBytes;
  }
};

/// One plan per shape, kept until the program ends: a shape always uses the same algorithm.
std::map<MatmulKey, Plan>& plans() {
  static std::map<MatmulKey, Plan>& instance = *new std::map<MatmulKey, Plan>;
  return instance;
}
std::mutex& plans_mutex() {
  static std::mutex mutex;
  return mutex;
}
Plan& get_plan(const MatMul& op, const GemmShape& shape) {
  const std::lock_guard lock(plans_mutex());
  return plans().try_emplace(matmul_key(op, shape), op, shape).first->second;
}

/// Milliseconds of one run: the best of kRuns after a warm-up run.
float measure_ms(const Plan& plan, const MatMul& op, const Algorithm& algorithm) {
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
    queue.synchronize();
    cuda::check("cudaEventElapsedTime", cudaEventElapsedTime(&milliseconds, begin, end));
    if (run == 1 || (run > 1 && milliseconds < best)) best = milliseconds;
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return best;
}

void tune_algorithms(const MatMul& op) {
  const GemmShape shape = slipway::check(op);
  if (shape.M == 0 || shape.N == 0 || shape.K == 0) return;
  Plan& plan = get_plan(op, shape);
  float best = 0;
  for (const Algorithm& candidate : plan.candidates(op, shape, kMaxCandidates)) {
    const float milliseconds = measure_ms(plan, op, candidate);
    if (best == 0 || milliseconds < best) best = milliseconds, plan.algorithm = candidate;
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
  constexpr std::pair<cublasLtMatmulAlgoConfigAttributes_t, const char*> kConfigAttributes[] = {
      {CUBLASLT_ALGO_CONFIG_ID, "algorithm"},
      {CUBLASLT_ALGO_CONFIG_TILE_ID, "tile"},
      {CUBLASLT_ALGO_CONFIG_STAGES_ID, "stages"},
      {CUBLASLT_ALGO_CONFIG_SPLITK_NUM, "parts of k"},
      {CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, "reduction"}};
  std::string text;
  for (const auto& [what, label] : kConfigAttributes) {
    int value = 0;
    std::size_t written = 0;
    if (cublasLtMatmulAlgoConfigGetAttribute(&algorithm.algo, what, &value, sizeof value, &written) ==
        CUBLAS_STATUS_SUCCESS)
      text += join(text.empty() ? "" : ", ", label, " ", value);
  }
  return text;
}

std::string serialize() {
  const std::lock_guard lock(plans_mutex());
  std::map<MatmulKey, Algorithm> algorithms = loaded_algorithms();
  for (const auto& [key, plan] : plans()) algorithms[key] = plan.algorithm;
  std::string text = version_line() + "\n";
  for (const auto& [key, algorithm] : algorithms) {
    for (const std::int64_t number : key) text += join(number, " ");
    for (const std::uint64_t word : algorithm.algo.data) text += join(word, " ");
    text += join("# [", key[0], ", ", key[2], "] x [", key[2], ", ", key[1], "] ", name(static_cast<DType>(key[6])),
                 ": ", describe(algorithm), "\n");
  }
  return text;
}

void load(const std::string& text) {
  std::istringstream input(text);
  std::string line;
  std::getline(input, line);
  if (line != version_line())
    throw Error(Fault::kDevice,
                join("these choices of algorithms were made with '", line, "', and this is '", version_line(),
                     "': remove gemm_algorithms.txt from the run's folder to choose anew"));
  const std::lock_guard lock(plans_mutex());
  while (std::getline(input, line)) {
    std::istringstream numbers(line);
    MatmulKey key{};
    Algorithm algorithm;
    for (std::int64_t& number : key) numbers >> number;
    for (auto& word : algorithm.algo.data) numbers >> word;
    if (!numbers) throw Error(Fault::kDevice, join("no choice of an algorithm: '", line, "'"));
    loaded_algorithms()[key] = algorithm;
    plans().erase(key);
  }
}

}  // namespace

const GemmAutotuner* gemm_autotuner() {
  static const GemmAutotuner autotuner{.tune = tune_algorithms, .serialize = serialize, .load = load};
  return &autotuner;
}

void matmul_cublaslt(Stream& stream, const MatMul& op) {
  const GemmShape shape = slipway::check(op);
  if (shape.M == 0 || shape.N == 0) return;
  if (shape.K == 0) return matmul_loops(stream, op);  // cublasLt refuses K = 0: c becomes 0, or is unchanged
  const Plan& plan = get_plan(op, shape);
  CudaStream& queue = cuda_stream_of(stream);
  plan.run(queue, queue.workspace(kGemmWorkspaceBytes), op, plan.algorithm);
}

}  // namespace slipway::cuda
