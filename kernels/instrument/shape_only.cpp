#include "kernels/instrument/shape_only.hpp"

#include <sys/mman.h>

#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <vector>

#include "kernels/backend/device.hpp"
#include "kernels/instrument/cost.hpp"
#include "kernels/scratch.hpp"
#include "src/core/first_fit_allocator.hpp"

namespace slipway {
namespace {

constexpr int kSmall = 0x3f;  // of every byte: 0.747 as f32, 0.0005 as f64

/// The host's memory for what may be as large as a model and is not looked at: pages that nobody touches cost nothing.
class UntouchedMemory final : public HostSpace {
 public:
  void* allocate(std::size_t bytes) override {
    void* block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    require(block != MAP_FAILED, "UntouchedMemory: no address space is left");
    sizes_[block] = bytes;
    return block;
  }
  void deallocate(void* block) noexcept override {
    munmap(block, sizes_[block]);
    sizes_.erase(block);
  }

 private:
  std::map<void*, std::size_t> sizes_;
};

/// Addresses that lead nowhere: following one is a fault at once.
class CountedMemory final : public MemorySpace {
 public:
  bool is_host() const override { return false; }
  void* allocate(std::size_t bytes) override {
    const std::optional<std::size_t> place = pieces_.allocate(bytes);
    require(place.has_value(), "CountedMemory: there is no end of it");
    return reinterpret_cast<void*>(kFirst + *place);  // NOLINT: an address and nothing more
  }
  void deallocate(void* block) noexcept override {
    pieces_.deallocate(reinterpret_cast<std::uintptr_t>(block) - kFirst);
    kept_.erase(block);
  }
  MemorySpace& staging() override { return staging_; }
  void zero(void*, std::size_t) override {}
  void write(void* to, const void* from, std::size_t bytes) override {
    if (bytes > kKeptBytes) return;
    const auto* first = static_cast<const std::byte*>(from);
    kept_[to].assign(first, first + bytes);
  }
  void read(void* to, const void* from, std::size_t bytes) override {
    const auto found = kept_.find(from);
    if (found != kept_.end() && found->second.size() >= bytes) std::memcpy(to, found->second.data(), bytes);
    else if (bytes <= kKeptBytes) std::memset(to, kSmall, bytes);
  }
  void copy(void* to, const void* from, std::size_t) override {
    if (const auto found = kept_.find(from); found != kept_.end()) kept_[to] = found->second;
  }

  std::uint64_t peak() const { return pieces_.high_water(); }
  void restart_peak() { pieces_.reset_high_water(); }

 private:
  static constexpr std::uintptr_t kFirst = std::uintptr_t{1} << 45;  // where Linux maps nothing
  FirstFitAllocator pieces_{std::size_t{1} << 45};
  std::map<const void*, std::vector<std::byte>> kept_;
  UntouchedMemory staging_;
};

CountedMemory& memory() {
  static CountedMemory& only = *new CountedMemory;  // for whoever gives memory back when the program ends
  return only;
}

Counts& mutable_counts() {
  static Counts all;
  return all;
}

DType product_type(const MatMul& op) { return op.a.dtype; }
DType product_type(const Attention& op) { return op.q_NHK.dtype; }
DType product_type(const AttentionGrad& op) { return op.q_NHK.dtype; }
template <class Op>
DType product_type(const Op&) {
  return DType::kF32;
}

std::map<std::array<std::int64_t, 9>, MatMul>& products_met() {
  static std::map<std::array<std::int64_t, 9>, MatMul> all;
  return all;
}
void meet(const MatMul& op) {
  products_met().try_emplace({op.a.rows, op.a.cols, op.c.rows, op.c.cols, op.a.stride, op.b.stride, op.c.stride,
                              (op.transpose_a ? 8 : 0) + (op.transpose_b ? 4 : 0) + (op.accumulate ? 2 : 0) +
                                  (op.addend.data != nullptr ? 1 : 0),
                              2 * static_cast<int>(op.a.dtype) + static_cast<int>(op.c.dtype)},
                             op);
}
template <class Op>
void meet(const Op&) {}

// Memory that ops of a queue share, as the CUDA backend takes it.
Buffer<char> scratch, workspace;

/// The old room is given back before a larger one is taken, as there.
void reserve(Buffer<char>& room, std::size_t bytes) {
  if (bytes <= room.size()) return;
  room = {};
  room = Buffer<char>(bytes, memory());
}

template <class Op>
void count(const Op& op, const char* entry) {
  meet(op);
  reserve(scratch, scratch_bytes(op));
  if (uses_library_gemm(op)) reserve(workspace, kGemmWorkspaceBytes);
  Counts::Row& row = mutable_counts().rows[{name_of(op, entry), product_type(op)}];
  const profile::Cost cost = cost_of(op, memory());
  ++row.calls;
  row.cost.flops += cost.flops;
  row.cost.bytes += cost.bytes;
}

}  // namespace

const Backend& shape_only_backend() {
  static const Backend backend = [] {
    Backend counting{.name = "counted",
                     .instructions = "none",
                     .gemm_library = "none",
                     .device = "none",
                     .native_bf16 = true,
                     .memory = &memory()};
#define SLIPWAY_OP(entry, Op) counting.entry = [](Stream&, const Op& op) { count(op, #entry); };
    SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP
    return counting;
  }();
  return backend;
}

const Counts& counts() { return mutable_counts(); }
void reset_counts() {
  mutable_counts() = {};
  products_met().clear();
}
std::vector<MatMul> counted_gemms() {
  std::vector<MatMul> all;
  for (const auto& [key, op] : products_met()) all.push_back(op);
  return all;
}
std::uint64_t counted_peak_bytes() { return memory().peak(); }
void reset_peak_bytes() {
  scratch = {}, workspace = {};
  memory().restart_peak();
}

}  // namespace slipway
