// The part of cublasLt that Slipway uses, with NVIDIA's prototypes: column-major matmuls by plain loops.
#include <cublasLt.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/cuda_emulation/memory.hpp"
#include "kernels/cuda_emulation/streams.hpp"
#include "src/core/dtype.hpp"

using namespace slipway::cuda_emulation;

namespace {

/// The contents of cublasLt's opaque structures.
struct MatmulDesc {
  cublasComputeType_t compute;
  cublasOperation_t left, right;
};
struct Layout {
  cudaDataType_t type;
  std::uint64_t rows, cols;
  std::int64_t stride;
};
struct Preference {
  std::uint64_t workspace;
  std::uint32_t reductions;
};
static_assert(sizeof(MatmulDesc) <= sizeof(cublasLtMatmulDescOpaque_t) &&
              sizeof(Layout) <= sizeof(cublasLtMatrixLayoutOpaque_t) &&
              sizeof(Preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t));

template <class Opaque>
Opaque* make_opaque(const auto& content) {
  auto* opaque = new Opaque{};
  std::memcpy(opaque, &content, sizeof content);
  return opaque;
}
template <class Content>
Content content_of(const auto* opaque) {
  Content content;
  std::memcpy(&content, opaque, sizeof content);
  return content;
}
template <class Content, class Opaque, class Value>
cublasStatus_t set(Opaque* opaque, Value Content::*member, const void* value, std::size_t bytes) {
  if (bytes != sizeof(Value)) return CUBLAS_STATUS_INVALID_VALUE;
  auto content = content_of<Content>(opaque);
  std::memcpy(&(content.*member), value, bytes);
  std::memcpy(opaque, &content, sizeof content);
  return CUBLAS_STATUS_SUCCESS;
}

std::size_t bytes_of(cudaDataType_t type) { return type == CUDA_R_32F ? 4 : 2; }

/// Element (row, col) of a column-major matrix in f32 or bf16.
float read(const void* data, const Layout& layout, std::uint64_t row, std::uint64_t col) {
  const std::uint64_t at = row + col * static_cast<std::uint64_t>(layout.stride);
  if (layout.type == CUDA_R_32F) return static_cast<const float*>(data)[at];
  return slipway::to_f32(static_cast<const slipway::Bf16*>(data)[at]);
}
void write(void* data, const Layout& layout, std::uint64_t row, std::uint64_t col, float value) {
  const std::uint64_t at = row + col * static_cast<std::uint64_t>(layout.stride);
  if (layout.type == CUDA_R_32F) static_cast<float*>(data)[at] = value;
  else static_cast<slipway::Bf16*>(data)[at] = slipway::to_bf16(value);
}

bool is_in_device_memory(const void* data, const Layout& layout) {
  if (layout.rows == 0 || layout.cols == 0) return true;
  const std::uint64_t elements = (layout.cols - 1) * static_cast<std::uint64_t>(layout.stride) + layout.rows;
  return is_device_range(data, elements * bytes_of(layout.type));
}

/// The status of cublasLt's heuristic: whether the shapes and types of the operands are compatible.
cublasStatus_t check_shapes(const MatmulDesc& matmul, const Layout& a, const Layout& b, const Layout& c) {
  const bool transpose_a = matmul.left == CUBLAS_OP_T, transpose_b = matmul.right == CUBLAS_OP_T;
  const std::uint64_t M = transpose_a ? a.cols : a.rows, a_K = transpose_a ? a.rows : a.cols;
  const std::uint64_t N = transpose_b ? b.rows : b.cols, b_K = transpose_b ? b.cols : b.rows;
  if (M != c.rows || N != c.cols || a_K != b_K || M == 0 || N == 0 || a_K == 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (matmul.compute != CUBLAS_COMPUTE_32F || a.type != b.type || (c.type != CUDA_R_32F && c.type != a.type))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  for (const Layout* layout : {&a, &b, &c})
    if (layout->stride < static_cast<std::int64_t>(layout->rows)) return CUBLAS_STATUS_INVALID_VALUE;
  return CUBLAS_STATUS_SUCCESS;
}

constexpr int kNumAlgorithms = 2;                        // they differ only in their ids
constexpr std::uint64_t kAlgorithmMagic = 0x6c616e6573;  // marks algorithms of the heuristic; cublasLtMatmul checks it

constexpr std::uint64_t kColumnBlock = 4;  // columns of a result that share each read of the left operand

/// `sums[j, m] = sum over k, in order, of left[k, m] right[j, k]` for `count` columns j.
void add_columns(const float* left, const float* right, std::uint64_t M, std::uint64_t K, std::uint64_t count,
                 float* __restrict sums) {
  std::fill_n(sums, count * M, 0.0f);
  for (std::uint64_t k = 0; k < K; ++k) {
    const float* __restrict column = left + k * M;
    for (std::uint64_t j = 0; j < count; ++j) {
      const float factor = right[j * K + k];
      float* __restrict sum = sums + j * M;
#pragma omp simd
      for (std::uint64_t m = 0; m < M; ++m) sum[m] += column[m] * factor;
    }
  }
}

}  // namespace

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  static int one;
  *handle = reinterpret_cast<cublasLtHandle_t>(&one);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t) { return CUBLAS_STATUS_SUCCESS; }
std::size_t cublasLtGetVersion() { return 0; }
const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    default: return "a status that the CUDA emulation does not give";
  }
}
const char* cublasLtGetStatusString(cublasStatus_t status) { return cublasLtGetStatusName(status); }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute, cudaDataType_t) {
  *desc = make_opaque<cublasLtMatmulDescOpaque_t>(MatmulDesc{compute, CUBLAS_OP_N, CUBLAS_OP_N});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) { return delete desc, CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t what,
                                              const void* value, std::size_t bytes) {
  if (what == CUBLASLT_MATMUL_DESC_TRANSA) return set(desc, &MatmulDesc::left, value, bytes);
  if (what == CUBLASLT_MATMUL_DESC_TRANSB) return set(desc, &MatmulDesc::right, value, bytes);
  return CUBLAS_STATUS_NOT_SUPPORTED;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type, std::uint64_t rows,
                                          std::uint64_t cols, std::int64_t stride) {
  *layout = make_opaque<cublasLtMatrixLayoutOpaque_t>(Layout{type, rows, cols, stride});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  return delete layout, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = make_opaque<cublasLtMatmulPreferenceOpaque_t>(Preference{0, CUBLASLT_REDUCTION_SCHEME_MASK});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return delete preference, CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t what, const void* value,
                                                    std::size_t bytes) {
  switch (what) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return set(preference, &Preference::workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return set(preference, &Preference::reductions, value, bytes);
    default: return CUBLAS_STATUS_SUCCESS;  // alignments: loops take any
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t, cublasLtMatmulPreference_t, int max_count,
                                              cublasLtMatmulHeuristicResult_t results[], int* count) {
  *count = 0;
  const cublasStatus_t status =
      check_shapes(content_of<MatmulDesc>(desc), content_of<Layout>(a), content_of<Layout>(b), content_of<Layout>(c));
  if (status != CUBLAS_STATUS_SUCCESS || max_count < 1) return status;
  for (*count = 0; *count < std::min(max_count, kNumAlgorithms); ++*count) {
    results[*count] = {};
    results[*count].algo.data[0] = kAlgorithmMagic;
    results[*count].algo.data[1] = static_cast<std::uint64_t>(*count);
  }
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t,
                                       const cublasLtMatmulAlgo_t* algorithm, cublasLtMatmulHeuristicResult_t* result) {
  *result = {.algo = *algorithm};
  if (algorithm->data[0] != kAlgorithmMagic) return CUBLAS_STATUS_INVALID_VALUE;
  return check_shapes(content_of<MatmulDesc>(desc), content_of<Layout>(a), content_of<Layout>(b),
                      content_of<Layout>(c));
}
cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t what, void* value,
                                                    std::size_t bytes, std::size_t* written) {
  if (what != CUBLASLT_ALGO_CONFIG_ID || bytes != sizeof(int)) return CUBLAS_STATUS_NOT_SUPPORTED;
  *static_cast<int*>(value) = static_cast<int>(algorithm->data[1]);
  return *written = bytes, CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void* alpha, const void* a_data,
                              cublasLtMatrixLayout_t a_layout, const void* b_data, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c_data, cublasLtMatrixLayout_t c_layout, void* d_data,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              std::size_t workspace_bytes, cudaStream_t stream) {
  const auto matmul = content_of<MatmulDesc>(desc);
  const auto a = content_of<Layout>(a_layout), b = content_of<Layout>(b_layout), c = content_of<Layout>(c_layout),
             d = content_of<Layout>(d_layout);
  if (const cublasStatus_t status = check_shapes(matmul, a, b, d); status != CUBLAS_STATUS_SUCCESS) return status;
  if (algorithm == nullptr || algorithm->data[0] != kAlgorithmMagic || !is_device_range(workspace, workspace_bytes) ||
      !is_in_device_memory(a_data, a) || !is_in_device_memory(b_data, b) || !is_in_device_memory(c_data, c) ||
      !is_in_device_memory(d_data, d))
    return CUBLAS_STATUS_INVALID_VALUE;
  const float alpha_f32 = *static_cast<const float*>(alpha), beta_f32 = *static_cast<const float*>(beta);
  enqueue(stream, [=] {
    const bool transpose_a = matmul.left == CUBLAS_OP_T, transpose_b = matmul.right == CUBLAS_OP_T;
    const std::uint64_t M = d.rows, N = d.cols, K = transpose_a ? a.rows : a.cols;
    std::vector<float> left(K * M), right(N * K), sums(M * kColumnBlock);  // op(a) and op(b), column-major
    for (std::uint64_t k = 0; k < K; ++k)
      for (std::uint64_t m = 0; m < M; ++m)
        left[k * M + m] = transpose_a ? read(a_data, a, k, m) : read(a_data, a, m, k);
    for (std::uint64_t n = 0; n < N; ++n)
      for (std::uint64_t k = 0; k < K; ++k)
        right[n * K + k] = transpose_b ? read(b_data, b, n, k) : read(b_data, b, k, n);
    for (std::uint64_t first = 0; first < N; first += kColumnBlock) {
      const std::uint64_t count = std::min(kColumnBlock, N - first);
      add_columns(left.data(), right.data() + first * K, M, K, count, sums.data());
      for (std::uint64_t j = 0; j < count; ++j)
        for (std::uint64_t m = 0; m < M; ++m)
          write(d_data, d, m, first + j,
                alpha_f32 * sums[j * M + m] + (beta_f32 != 0 ? beta_f32 * read(c_data, c, m, first + j) : 0.0f));
    }
  });
  return CUBLAS_STATUS_SUCCESS;
}
