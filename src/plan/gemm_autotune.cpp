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

std::filesystem::path file_of(const std::filesystem::path& run) { return run / "gemm_algorithms.txt"; }

/// A matrix of a dry run, in memory that is there, on the same boundary.
template <class Rows>
void place(Rows& rows, Buffer<char>& room, MemorySpace& space) {
  if (rows.data == nullptr) return;
  constexpr std::uintptr_t kBoundary = 16;
  const auto offset = reinterpret_cast<std::uintptr_t>(rows.data) % kBoundary;
  const std::size_t bytes = static_cast<std::size_t>(rows.rows * rows.stride) * sizeof(float) + kBoundary;
  if (room.size() < bytes) {
    room.reserve(bytes, space);
    fill_random(room.data(), room.size(), space);
  }
  rows.data = reinterpret_cast<decltype(rows.data)>(room.data() + offset);
}

void time_matmuls(const RunConfig& config, const ModelSpec& model, int data_ranks, const Backend& backend) {
  const double begin_s = now_s();
  const std::vector<MatMul> matmuls = dry_run(config, model, data_ranks).matmuls;
  Buffer<char> a, b, c, addend;
  std::size_t done = 0;
  for (MatMul op : matmuls) {
    place(op.a, a, *backend.memory), place(op.b, b, *backend.memory), place(op.c, c, *backend.memory);
    place(op.addend, addend, *backend.memory);
    backend.autotuner->time(op);
    log::progress(join("timing products: ", ++done, " of ", matmuls.size(), " shapes"), /*redraw=*/true);
  }
  log::info(join("timed the algorithms of ", matmuls.size(), " products in ", human_time(now_s() - begin_s)));
}

}  // namespace

void load_or_tune_gemms(const RunConfig& config, const ModelSpec& model, int data_ranks, const Backend& backend,
                        Group& all, const std::filesystem::path& run) {
  if (backend.autotuner == nullptr) {
    if (config.parallel.tune) log::warn("runtime.tune has no effect on the CPU");
    return;
  }
  std::string lines;
  if (all.rank() == 0) {
    if (std::filesystem::exists(file_of(run))) {
      lines = read_file(file_of(run), Fault::kStorage);
      try {
        backend.autotuner->adopt(lines);
      } catch (const Error& error) {
        log::warn(join(error.what(), "; chosen anew now"));
        lines.clear();
      }
    }
    if (lines.empty() && config.parallel.tune) {
      time_matmuls(config, model, data_ranks, backend);
      lines = backend.autotuner->lines();
    }
  }
  lines = all.all_gather_text(lines).front();
  if (lines.empty() || all.rank() == 0) return;
  try {
    backend.autotuner->adopt(lines);
  } catch (const Error& error) {
    log::warn(join("rank ", all.rank(), " has another GPU than rank 0 and chooses for itself: ", error.what()));
  }
}

void save_gemm_choices(const Backend& backend, const std::filesystem::path& run) {
  if (backend.autotuner != nullptr) replace_file(file_of(run), backend.autotuner->lines());
}

}  // namespace slipway
