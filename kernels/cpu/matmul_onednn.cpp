// Matmul by oneDNN: the only file that includes it.
#if defined(SLIPWAY_ONEDNN)
#include <dnnl.hpp>
#if defined(_OPENMP)
#include <omp.h>
#endif

#include <algorithm>
#include <array>

#include "kernels/backend/cpu_backend.hpp"
#include "kernels/checks.hpp"
#include "kernels/cpu/ops.hpp"
#include "kernels/cpu/parallel.hpp"

namespace slipway::cpu {
namespace {

void require_success(dnnl_status_t status) {
  if (status != dnnl_success) throw Error(Fault::kDevice, join("oneDNN refused a matmul with status ", status));
}

/// oneDNN takes its number of threads from OpenMP, which keeps that number for each calling thread.
void set_onednn_threads([[maybe_unused]] const Stream& stream) {
#if defined(_OPENMP)
  if (const int threads = max_threads(stream); omp_get_max_threads() != threads) omp_set_num_threads(threads);
#endif
}

/// An f32 operand, or a copy of it.
struct F32Matrix {
  const float* data = nullptr;
  std::int64_t stride = 0;
};

/// `op.c`, f32, from the f32 operands `a` and `b`.
void sgemm(const MatMul& op, const GemmShape& shape, F32Matrix a, F32Matrix b) {
  require_success(dnnl_sgemm(op.transpose_a ? 'T' : 'N', op.transpose_b ? 'T' : 'N', shape.M, shape.N, shape.K, 1.0f,
                             a.data, a.stride, b.data, b.stride, op.accumulate ? 1.0f : 0.0f,
                             static_cast<float*>(op.c.data), op.c.stride));
}

/// Copies the columns [first, first + cols) of an operand to rows that are an odd number of cache lines apart.
F32Matrix copy_with_odd_stride(const Stream& stream, F32Matrix from, int rows, int first, int cols, Buffer<float>& to) {
  constexpr int kCacheLine = 16;  // floats
  const int stride = ((cols + kCacheLine - 1) / kCacheLine | 1) * kCacheLine;
  const std::size_t size = static_cast<std::size_t>(rows) * static_cast<std::size_t>(stride);
  to.reserve(size);
  float* copy = to.data();
  for_each_row(stream, rows, cols,
               [=](int r) { std::copy_n(from.data + r * from.stride + first, cols, copy + std::int64_t{r} * stride); });
  return {copy, stride};
}

/// Rows a multiple of 2 KB apart share cache sets, and a transposed operand is read across its rows.
bool rows_share_cache_sets(std::int64_t stride) { return stride % 512 == 0; }

/// The matmul for a transposed `a` whose rows share cache sets: panels of `a`, and `b`, are copied to odd strides.
/// Measured on one core of a Zen 4: [16384, 1024] x [1024, 256] 64 GFLOP/s for 30, [512, 1024] x [1024, 256] 70 for 52.
void sgemm_by_panels(const Stream& stream, const MatMul& op, const GemmShape& shape, F32Matrix a, F32Matrix b) {
  constexpr int kPanel = 1024;  // columns of a: 4 MB at 1024 rows
  static thread_local Buffer<float> panel, b_copy;
  if (!op.transpose_b) b = copy_with_odd_stride(stream, b, shape.K, 0, shape.N, b_copy);
  for (int first = 0; first < shape.M; first += kPanel) {
    MatMul part = op;
    part.c = op.c.view_rows(first, std::min(kPanel, shape.M - first));
    const GemmShape part_shape{.M = part.c.rows, .N = shape.N, .K = shape.K};
    sgemm(part, part_shape, copy_with_odd_stride(stream, a, shape.K, first, part.c.rows, panel), b);
  }
}

void multiply(const Stream& stream, const MatMul& op, const GemmShape& shape, F32Matrix a, F32Matrix b) {
  if (op.transpose_a && rows_share_cache_sets(a.stride)) return sgemm_by_panels(stream, op, shape, a, b);
  sgemm(op, shape, a, b);
}

/// Converts a bf16 matrix to f32, in a buffer that this thread reuses.
F32Matrix convert_to_f32(const Stream& stream, const ConstTensorView& from, Buffer<float>& to) {
  const std::size_t size = static_cast<std::size_t>(from.rows) * static_cast<std::size_t>(from.cols);
  to.reserve(size);
  float* copy = to.data();
  for_each_row(stream, from.rows, from.cols, [&](int r) {
    const Bf16* bf16_C = static_cast<const Bf16*>(from.data) + r * from.stride;
    float* f32_C = copy + std::int64_t{r} * from.cols;
    SerialTeam{}.for_each(from.cols, [=](int c) { f32_C[c] = to_f32(bf16_C[c]); });
  });
  return {copy, from.cols};
}

/// One oneDNN matmul primitive, which the library caches by its shape (a lookup takes 2 us). The scratchpad is ours, so
/// that no call allocates memory.
void run_primitive(const MatMul& op, const GemmShape& shape) {
  using dnnl::memory;
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  static thread_local dnnl::stream stream(engine);
  const auto desc = [](int rows, int cols, DType dtype, std::int64_t stride, bool transposed) {
    const auto type = dtype == DType::kBf16 ? memory::data_type::bf16 : memory::data_type::f32;
    return memory::desc({rows, cols}, type, transposed ? memory::dims{1, stride} : memory::dims{stride, 1});
  };
  const memory::desc a = desc(shape.M, shape.K, op.a.dtype, op.a.stride, op.transpose_a);
  const memory::desc b = desc(shape.K, shape.N, op.b.dtype, op.b.stride, op.transpose_b);
  const memory::desc c = desc(shape.M, shape.N, op.c.dtype, op.c.stride, false);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);  // the library's own is shared between threads
  if (op.accumulate) {
    dnnl::post_ops post;
    post.append_sum(1.0f);
    attributes.set_post_ops(post);
  }
  try {
    const dnnl::matmul::primitive_desc descriptor({a, b, c}, attributes, engine);
    static thread_local Buffer<char> scratch;
    scratch.reserve(descriptor.scratchpad_desc().get_size());
    dnnl::matmul(descriptor)
        .execute(stream, {{DNNL_ARG_SRC, memory(a, engine, const_cast<void*>(op.a.data))},
                          {DNNL_ARG_WEIGHTS, memory(b, engine, const_cast<void*>(op.b.data))},
                          {DNNL_ARG_DST, memory(c, engine, op.c.data)},
                          {DNNL_ARG_SCRATCHPAD, memory(descriptor.scratchpad_desc(), engine, scratch.data())}});
    stream.wait();
  } catch (const dnnl::error& error) {
    require_success(error.status);
  }
}

/// With AVX-512 primitives are as fast as `dnnl_sgemm`; below that they call it, with its slow strides and without our
/// panels.
bool onednn_has_f32_primitives() { return dnnl_get_effective_cpu_isa() >= dnnl_cpu_isa_avx512_core; }

}  // namespace

bool onednn_is_signal_safe() {
  constexpr std::array kFixedVersion = {3, 11, 2};
  const dnnl_version_t* version = dnnl_version();
  return std::array{version->major, version->minor, version->patch} >= kFixedVersion;
}

std::string onednn_version() {
  const dnnl_version_t* version = dnnl_version();
  return join("oneDNN ", version->major, ".", version->minor, ".", version->patch);
}

std::string onednn_instructions() {
  switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_avx2: return "AVX2";
    case dnnl_cpu_isa_avx512_core: return "AVX-512";
    case dnnl_cpu_isa_avx512_core_vnni: return "AVX512_VNNI";
    case dnnl_cpu_isa_avx512_core_bf16: return "AVX512_BF16";
    case dnnl_cpu_isa_avx512_core_amx: return "AMX";
    default: return join("isa ", static_cast<int>(dnnl_get_effective_cpu_isa()));
  }
}

bool limit_onednn(std::string_view set) {
  return dnnl_set_max_cpu_isa(set == "base"     ? dnnl_cpu_isa_avx2
                              : set == "avx512" ? dnnl_cpu_isa_avx512_core
                                                : dnnl_cpu_isa_avx512_core_bf16) == dnnl_success;
}

bool onednn_has_bf16() {
  const dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
  return isa == dnnl_cpu_isa_avx512_core_bf16 || isa == dnnl_cpu_isa_avx512_core_amx;
}

void matmul_general(Stream& stream, const MatMul& op) {
  const GemmShape shape = check(op);
  if (shape.M == 0 || shape.N == 0) return;
  if (shape.K == 0) return matmul_loops(stream, op);
  set_onednn_threads(stream);
  static const bool has_bf16 = onednn_has_bf16(), has_f32 = onednn_has_f32_primitives();
  if (op.a.dtype == DType::kF32) {
    if (has_f32) return run_primitive(op, shape);
    return multiply(stream, op, shape, {static_cast<const float*>(op.a.data), op.a.stride},
                    {static_cast<const float*>(op.b.data), op.b.stride});
  }
  if (has_bf16) return run_primitive(op, shape);
  static thread_local Buffer<float> a_f32, b_f32, c_f32;
  const F32Matrix a = convert_to_f32(stream, op.a, a_f32), b = convert_to_f32(stream, op.b, b_f32);
  if (op.c.dtype == DType::kF32) return multiply(stream, op, shape, a, b);
  c_f32.reserve(static_cast<std::size_t>(op.c.size()));
  MatMul op_f32 = op;
  op_f32.c = c_f32.matrix(shape.M, shape.N);
  multiply(stream, op_f32, shape, a, b);
  cpu::to_bf16(stream, {op_f32.c.as<float>(), op.c.as<Bf16>()});
}

}  // namespace slipway::cpu
#endif
