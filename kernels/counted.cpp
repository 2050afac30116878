#include "kernels/counted.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/cost.hpp"

namespace slipway {
namespace {

constexpr std::size_t kGranule = 512;  // cudaMalloc's
constexpr int kSmall = 0x3f;           // of every byte: 0.747 as f32, 0.0005 as f64

/// Addresses that lead nowhere: following one is a fault at once.
class CountedMemory final : public MemorySpace {
 public:
  bool is_host() const override { return false; }
  void* take(std::size_t bytes) override {
    const std::size_t rounded = (bytes + kGranule - 1) / kGranule * kGranule;
    void* block = reinterpret_cast<void*>(next_);  // NOLINT: an address and nothing more
    next_ += rounded;
    sizes_[block] = rounded;
    taken_ += rounded;
    peak_ = std::max(peak_, taken_);
    return block;
  }
  void give_back(void* block) noexcept override {
    const auto found = sizes_.find(block);
    if (found == sizes_.end()) return;
    taken_ -= found->second;
    sizes_.erase(found);
    kept_.erase(block);
  }
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
  void copy(void*, const void*, std::size_t) override {}

  std::uint64_t peak() const { return peak_; }
  void restart_peak() { peak_ = taken_; }

 private:
  std::uintptr_t next_ = std::uintptr_t{1} << 45;  // where Linux maps nothing
  std::map<const void*, std::size_t> sizes_;
  std::map<const void*, std::vector<std::byte>> kept_;
  std::uint64_t taken_ = 0, peak_ = 0;
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

template <class Op>
void count(const Op& op, const char* entry) {
  Counts::Row& row = mutable_counts().rows[{name_of(op, entry), product_type(op)}];
  const profile::Cost cost = cost_of(op, memory());
  ++row.calls;
  row.cost.flops += cost.flops;
  row.cost.bytes += cost.bytes;
}

}  // namespace

const KernelTable& counted_kernels() {
  static const KernelTable table = [] {
    KernelTable counting{.name = "counted",
                         .instructions = "none",
                         .products = "none",
                         .device = "none",
                         .native_bf16 = true,
                         .memory = &memory()};
#define SLIPWAY_OP(entry, Op) counting.entry = [](Stream&, const Op& op) { count(op, #entry); };
    SLIPWAY_EACH_OP(SLIPWAY_OP)
#undef SLIPWAY_OP
    return counting;
  }();
  return table;
}

const Counts& counts() { return mutable_counts(); }
void restart_counts() { mutable_counts() = {}; }
std::uint64_t counted_peak_bytes() { return memory().peak(); }
void restart_peak_bytes() { memory().restart_peak(); }

}  // namespace slipway
