#include "src/plan/gemm_autotune.hpp"

#include <algorithm>
#include <vector>

#include "kernels/instrument/device_peaks.hpp"
#include "src/core/clock.hpp"
#include "src/core/file.hpp"
#include "src/core/log.hpp"
#include "src/plan/dry_run.hpp"

namespace slipway {
namespace {

std::filesystem::path algorithms_file(const std::filesystem::path& run) { return run / "gemm_algorithms.txt"; }

/// A matrix of a dry run, in memory that is there, on the same boundary.
template <class Rows>
void point_at_scratch(Rows& rows, Buffer<char>& scratch, MemorySpace& space) {
  if (rows.data == nullptr) return;
  constexpr std::uintptr_t kAlignment = 16;
  const auto offset = reinterpret_cast<std::uintptr_t>(rows.data) % kAlignment;
  const std::size_t bytes = static_cast<std::size_t>(rows.rows * rows.stride) * sizeof(float) + kAlignment;
  if (scratch.size() < bytes) {
    scratch.reserve(bytes, space);
    fill_random(scratch.data(), scratch.size(), space);
  }
  rows.data = reinterpret_cast<decltype(rows.data)>(scratch.data() + offset);
}

void time_matmuls(const RunConfig& config, const ModelSpec& model, int data_parallel_size, const Backend& backend) {
  const double begin_s = now_s();
  const std::vector<MatMul> matmuls = dry_run(config, model, data_parallel_size).matmuls;
  Buffer<char> a, b, c, residual;
  std::size_t num_timed = 0;
  for (MatMul op : matmuls) {
    point_at_scratch(op.a, a, *backend.memory), point_at_scratch(op.b, b, *backend.memory),
        point_at_scratch(op.c, c, *backend.memory);
    point_at_scratch(op.residual, residual, *backend.memory);
    backend.autotuner->tune(op);
    log::progress(join("timing products: ", ++num_timed, " of ", matmuls.size(), " shapes"), /*redraw=*/true);
  }
  log::info(join("timed the algorithms of ", matmuls.size(), " products in ", human_time(now_s() - begin_s)));
}

}  // namespace

void load_or_tune_gemms(const RunConfig& config, const ModelSpec& model, int data_parallel_size, const Backend& backend,
                        Group& world_group, const std::filesystem::path& run) {
  if (backend.autotuner == nullptr) {
    if (config.parallel.tune) log::warn("runtime.tune has no effect on the CPU");
    return;
  }
  std::string lines;
  if (world_group.rank() == 0) {
    if (std::filesystem::exists(algorithms_file(run))) {
      lines = read_file(algorithms_file(run), Fault::kStorage);
      try {
        backend.autotuner->load(lines);
      } catch (const Error& error) {
        log::warn(join(error.what(), "; chosen anew now"));
        lines.clear();
      }
    }
    if (lines.empty() && config.parallel.tune) {
      time_matmuls(config, model, data_parallel_size, backend);
      lines = backend.autotuner->serialize();
    }
  }
  lines = world_group.all_gather_text(lines).front();
  if (lines.empty() || world_group.rank() == 0) return;
  try {
    backend.autotuner->load(lines);
  } catch (const Error& error) {
    log::warn(join("rank ", world_group.rank(), " has another GPU than rank 0 and chooses for itself: ", error.what()));
  }
}

void save_gemm_choices(const Backend& backend, const std::filesystem::path& run) {
  if (backend.autotuner != nullptr) atomic_write_file(algorithms_file(run), backend.autotuner->serialize());
}

}  // namespace slipway
