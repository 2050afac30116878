#include "src/plan/dry_run.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>
#include <vector>

#include "comm/mesh.hpp"
#include "src/data/packing.hpp"
#include "src/model/model.hpp"
#include "src/optim/reduction_slots.hpp"
#include "src/optim/step_update.hpp"

namespace slipway {
namespace {

Counts take_counts() {
  Counts all = counts();
  reset_counts();
  return all;
}

void add_to(Counts& sum, const Counts& more) {
  for (const auto& [key, row] : more.rows) {
    Counts::Row& to = sum.rows[key];
    to.calls += row.calls, to.cost.flops += row.cost.flops, to.cost.bytes += row.cost.bytes;
  }
}

Counts difference(const Counts& after, const Counts& before) {
  Counts result;
  for (const auto& [key, row] : after.rows) {
    const auto found = before.rows.find(key);
    const Counts::Row was = found == before.rows.end() ? Counts::Row{} : found->second;
    if (row.calls == was.calls) continue;
    result.rows[key] = {row.calls - was.calls, {row.cost.flops - was.cost.flops, row.cost.bytes - was.cost.bytes}};
  }
  return result;
}

/// Rank 0 of a group of GPUs without its peers: counts what it would send, and receives its own data in place of
/// theirs.
class FakeGroup final : public Group {
 public:
  FakeGroup(int size, Reduction reduction) : Group(reduction), size_(size) {}
  int rank() const override { return 0; }
  int size() const override { return size_; }
  const char* name() const override { return "dry"; }
  MemorySpace& space() const override { return *shape_only_backend().memory; }
  bool is_async() const override { return true; }
  void begin_overlap() override {
    close();
    if (size_ > 1) overlapping_ = true, before_ = counts();
  }
  void end_overlap() override {
    close();
    overlapping_ = false;
  }
  void barrier() override {}
  void broadcast(void*, std::size_t count, int) override { sent(count); }
  void all_gather(const void* mine, std::size_t count, void* all) override {
    if (size_ > 1) sent(count * static_cast<std::size_t>(size_ - 1));
    for (int r = 0; r < size_; ++r)
      give(static_cast<std::byte*>(all) + static_cast<std::size_t>(r) * count, mine, count);
  }
  void send_recv(int, const void* send, void* receive, std::size_t count) override {
    sent(count);
    give(receive, send, count);
  }

  CommVolume taken() { return std::exchange(volume_, {}); }
  std::vector<OverlappedComm> take_overlapped() { return std::exchange(overlapped_, {}); }

 protected:
  bool library_all_reduce(std::span<float> x) override {
    if (reduction() != Reduction::kLibrary) return false;
    if (size_ > 1) sent(2 * x.size_bytes() * static_cast<std::size_t>(size_ - 1) / static_cast<std::size_t>(size_));
    return true;
  }
  void add(float* x, const float* y, std::size_t count) override {
    const Counts was = counts();
    Stream stream;
    shape_only_backend().add(stream, {.x = {y, count}, .y = {x, count}});
    add_to(before_, difference(counts(), was));  // a message's own, not beside it
  }

 private:
  void sent(std::size_t bytes) {
    CommVolume& to = overlapping_ ? overlapped_volume_ : volume_;
    ++to.messages, to.bytes += static_cast<double>(bytes);
  }
  void give(void* to, const void* from, std::size_t count) const {
    if (to != from && count <= kKeptBytes) space().copy(to, from, count);
  }
  /// What was asked since begin_overlap() ends here.
  void close() {
    const CommVolume messages = std::exchange(overlapped_volume_, {});
    if (messages.messages > 0) overlapped_.push_back({messages, difference(counts(), before_)});
  }

  int size_;
  CommVolume volume_, overlapped_volume_;
  bool overlapping_ = false;
  Counts before_;
  std::vector<OverlappedComm> overlapped_;
};

}  // namespace

DryRun dry_run(const RunConfig& config, const ModelSpec& spec, int data_ranks) {
  // The batch is a real one, though nothing is computed with it.
  constexpr std::int64_t kMaxTokens = 1 << 22;
  if (const std::int64_t tokens = std::int64_t{config.train.micro_batch} * config.train.sequence; tokens > kMaxTokens)
    throw Error(Fault::kConfig, join("train.micro_batch ", config.train.micro_batch, " x train.sequence ",
                                     config.train.sequence, " are ", tokens, " tokens at once, but the ops of at most ",
                                     kMaxTokens, " can be listed for a GPU; lower one of them"));
  const Backend& backend = shape_only_backend();
  reset_peak_bytes();
  const Reduction reduction = config.numerics.collective_reduction();
  auto data_group = std::make_unique<FakeGroup>(data_ranks, reduction),
       tensor_group = std::make_unique<FakeGroup>(config.parallel.tensor, reduction);
  FakeGroup &data = *data_group, &tensor = *tensor_group;
  Mesh mesh{std::move(data_group), std::move(tensor_group)};
  const ReductionSlots slots =
      ReductionSlots::make(config.train.batch, config.train.micro_batch, config.numerics.slots, data_ranks);
  Model model(spec, backend, *mesh.tensor,
              {.compute = config.compute(), .slots = config.numerics.slots, .recompute = config.recompute()});
  model.parameters().enable_gradients();
  StepUpdate update(config.optim, model.parameters(), backend, mesh, slots, config.parallel.offload);
  model.refresh();
  Batch batch;
  synthetic_batch(config.train.micro_batch, config.train.sequence, batch);
  reset_counts(), tensor.taken(), data.taken();

  DryRun result{.micro_batches = slots.slots_per_rank() * slots.micro_batches_per_slot()};
  const auto micro_batch = [&] {
    model.forward(batch, 1.0f, update.loss_sum(0));
    model.backward();
  };
  micro_batch();
  result.matmuls = counted_gemms();
  result.micro_batch = take_counts();
  result.micro_batch_tensor = tensor.taken();
  result.micro_batch_overlapped = tensor.take_overlapped();

  // Peak memory depends on the order of allocations: the second batch has buffers of its own as well as the first's.
  for (int slot = 0; slot < slots.slots_per_rank(); ++slot) {
    if (slot > 0 || slots.micro_batches_per_slot() > 1) micro_batch();
    reset_counts(), tensor.taken(), tensor.take_overlapped();
    update.finish_slot();
    add_to(result.update, take_counts());
  }
  update.check_finite();
  update.reduce_gradients();
  update.apply(/*step=*/0, /*lr=*/1e-3);
  std::ranges::copy(counted_gemms(), std::back_inserter(result.matmuls));
  add_to(result.update, take_counts());
  result.update_tensor = tensor.taken();
  result.update_data = data.taken();
  if (config.reporting.validate_every > 0) model.loss(batch, update.loss_sum(0));
  if (config.reporting.sample_every > 0 && config.parallel.tensor == 1) {
    const int tokens = std::min(config.reporting.sample_tokens + 1, spec.context);
    ModelState state = model.make_state(/*sequences=*/1, tokens);
    Buffer<float> logits(static_cast<std::size_t>(spec.vocabulary), *backend.memory);
    model.infer(std::vector<int>{0}, state, logits.matrix(1, spec.vocabulary), /*last_only=*/true);
  }
  reset_counts(), tensor.taken();
  result.peak_bytes = counted_peak_bytes();
  return result;
}

}  // namespace slipway
