#include "src/train/product_tuning.hpp"

#include <algorithm>
#include <vector>

#include "src/core/clock.hpp"
#include "src/core/file.hpp"
#include "src/core/log.hpp"
#include "src/core/random.hpp"
#include "src/train/dry_run.hpp"

namespace slipway {
namespace {

std::filesystem::path file_of(const std::filesystem::path& run) { return run / "products.txt"; }

/// Fills it with normal numbers, as bf16 and as f32: products of zeros take less power than those of a model, and so
/// less time.
void fill(Buffer<char>& room, MemorySpace& space) {
  constexpr std::size_t kDrawn = std::size_t{1} << 18;
  const Random random(1, stream_of("train/product_tuning"));
  std::vector<Bf16> numbers(std::min(kDrawn, room.size() / sizeof(Bf16)));
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = to_bf16(0.02f * random.normal(i));
  std::size_t done = numbers.size() * sizeof(Bf16);
  space.write(room.data(), numbers.data(), done);
  while (done < room.size()) {
    const std::size_t count = std::min(done, room.size() - done);
    space.copy(room.data() + done, room.data(), count);
    done += count;
  }
}

/// A matrix of a dry run, in memory that is there, on the same boundary.
template <class Rows>
void place(Rows& rows, Buffer<char>& room, MemorySpace& space) {
  if (rows.data == nullptr) return;
  constexpr std::uintptr_t kBoundary = 16;
  const auto offset = reinterpret_cast<std::uintptr_t>(rows.data) % kBoundary;
  const std::size_t bytes = static_cast<std::size_t>(rows.rows * rows.stride) * sizeof(float) + kBoundary;
  if (room.size() < bytes) {
    room.fit(bytes, space);
    fill(room, space);
  }
  rows.data = reinterpret_cast<decltype(rows.data)>(room.data() + offset);
}

void time_products(const RunConfig& config, const ModelDescription& model, int data_ranks, const KernelTable& kernels) {
  const double begin_s = now_s();
  const std::vector<MatMul> products = dry_run(config, model, data_ranks).products;
  Buffer<char> a, b, c, addend;
  std::size_t done = 0;
  for (MatMul op : products) {
    place(op.a, a, *kernels.memory), place(op.b, b, *kernels.memory), place(op.c, c, *kernels.memory);
    place(op.addend, addend, *kernels.memory);
    kernels.choices->time(op);
    log::progress(join("timing products: ", ++done, " of ", products.size(), " shapes"), /*redraw=*/true);
  }
  log::info(join("timed the algorithms of ", products.size(), " products in ", human_time(now_s() - begin_s)));
}

}  // namespace

void settle_products(const RunConfig& config, const ModelDescription& model, int data_ranks, const KernelTable& kernels,
                     Group& all, const std::filesystem::path& run) {
  if (kernels.choices == nullptr) {
    if (config.layout.tune) log::warn("runtime.tune has no effect on the CPU");
    return;
  }
  std::string lines;
  if (all.rank() == 0) {
    if (std::filesystem::exists(file_of(run))) {
      lines = read_file(file_of(run), Fault::kStorage);
      try {
        kernels.choices->adopt(lines);
      } catch (const Error& error) {
        log::warn(join(error.what(), "; chosen anew now"));
        lines.clear();
      }
    }
    if (lines.empty() && config.layout.tune) {
      time_products(config, model, data_ranks, kernels);
      lines = kernels.choices->lines();
    }
  }
  lines = all.all_gather_text(lines).front();
  if (!lines.empty()) kernels.choices->adopt(lines);
}

void record_products(const KernelTable& kernels, const std::filesystem::path& run) {
  if (kernels.choices != nullptr) replace_file(file_of(run), kernels.choices->lines());
}

}  // namespace slipway
