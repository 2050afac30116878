#include "src/train/dry_run.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>
#include <vector>

#include "comm/world.hpp"
#include "src/data/packing.hpp"
#include "src/model/model.hpp"
#include "src/train/slots.hpp"
#include "src/train/update.hpp"

namespace slipway {
namespace {

Counts taken_counts() {
  Counts all = counts();
  restart_counts();
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

/// Rank 0 of a group over GPUs whose other members are not there: what it would send is counted, what it would receive
/// is its own.
class AloneInGroup final : public Group {
 public:
  explicit AloneInGroup(int size) : size_(size) {}
  int rank() const override { return 0; }
  int size() const override { return size_; }
  const char* name() const override { return "dry"; }
  MemorySpace& space() const override { return *counted_kernels().memory; }
  bool only_queues() const override { return true; }
  void aside() override {
    close();
    if (size_ > 1) beside_ = true, before_ = counts();
  }
  void together() override {
    close();
    beside_ = false;
  }
  void barrier() override {}
  void broadcast(void*, std::size_t count, int) override { sent(count); }
  void all_gather(const void* mine, std::size_t count, void* all) override {
    if (size_ > 1) sent(count * static_cast<std::size_t>(size_ - 1));
    for (int r = 0; r < size_; ++r)
      give(static_cast<std::byte*>(all) + static_cast<std::size_t>(r) * count, mine, count);
  }
  void exchange(int, const void* send, void* receive, std::size_t count) override {
    sent(count);
    give(receive, send, count);
  }

  Traffic taken() { return std::exchange(traffic_, {}); }
  std::vector<Beside> taken_beside() { return std::exchange(all_beside_, {}); }

 protected:
  bool sum_by_library(std::span<float> x) override {
    if (!library_sums()) return false;
    if (size_ > 1) sent(2 * x.size_bytes() * static_cast<std::size_t>(size_ - 1) / static_cast<std::size_t>(size_));
    return true;
  }
  void add(float* x, const float* y, std::size_t count) override {
    const Counts was = counts();
    Stream stream;
    counted_kernels().add(stream, {.x = {y, count}, .y = {x, count}});
    add_to(before_, difference(counts(), was));  // a message's own, not beside it
  }

 private:
  void sent(std::size_t bytes) {
    Traffic& to = beside_ ? messages_beside_ : traffic_;
    ++to.messages, to.bytes += static_cast<double>(bytes);
  }
  void give(void* to, const void* from, std::size_t count) const {
    if (to != from && count <= kKeptBytes) space().copy(to, from, count);
  }
  /// What was asked since aside() ends here.
  void close() {
    const Traffic messages = std::exchange(messages_beside_, {});
    if (messages.messages > 0) all_beside_.push_back({messages, difference(counts(), before_)});
  }

  int size_;
  Traffic traffic_, messages_beside_;
  bool beside_ = false;
  Counts before_;
  std::vector<Beside> all_beside_;
};

}  // namespace

DryRun dry_run(const RunConfig& config, const ModelDescription& description, int data_ranks) {
  // The batch is a real one, though nothing is computed with it.
  constexpr std::int64_t kMostTokens = 1 << 22;
  if (const std::int64_t tokens = std::int64_t{config.train.micro_batch} * config.train.sequence; tokens > kMostTokens)
    throw Error(Fault::kConfig, join("train.micro_batch ", config.train.micro_batch, " x train.sequence ",
                                     config.train.sequence, " are ", tokens, " tokens at once, but the ops of at most ",
                                     kMostTokens, " can be listed for a GPU; lower one of them"));
  const KernelTable& kernels = counted_kernels();
  restart_peak_bytes();
  auto data_group = std::make_unique<AloneInGroup>(data_ranks),
       tensor_group = std::make_unique<AloneInGroup>(config.layout.tensor);
  AloneInGroup &data = *data_group, &tensor = *tensor_group;
  Mesh mesh{std::move(data_group), std::move(tensor_group)};
  const SlotPlan slots =
      SlotPlan::make(config.train.batch, config.train.micro_batch, config.numerics.slots, data_ranks);
  Model model(description, kernels, *mesh.tensor,
              {.compute = config.compute(), .slots = config.numerics.slots, .recompute = config.recompute()});
  model.parameters().enable_gradients();
  Update update(config, model.parameters(), kernels, mesh, slots);
  model.refresh();
  Batch batch;
  whole_documents(config.train.micro_batch, config.train.sequence, batch);
  restart_counts(), tensor.taken(), data.taken();

  DryRun result{.micro_batches = slots.slots_per_rank() * slots.micro_batches_per_slot()};
  const auto micro_batch = [&] {
    model.forward(batch, 1.0f, update.nats(0));
    model.backward();
  };
  micro_batch();
  result.products = counted_products();
  result.micro_batch = taken_counts();
  result.micro_batch_tensor = tensor.taken();
  result.micro_batch_beside = tensor.taken_beside();

  // What is taken depends on the order: a second batch has rooms of its own beside the first one's.
  for (int slot = 0; slot < slots.slots_per_rank(); ++slot) {
    if (slot > 0 || slots.micro_batches_per_slot() > 1) micro_batch();
    restart_counts(), tensor.taken(), tensor.taken_beside();
    update.close_slot();
    add_to(result.update, taken_counts());
  }
  update.find_bad();
  update.join();
  update.move(/*step=*/0, /*lr=*/1e-3);
  std::ranges::copy(counted_products(), std::back_inserter(result.products));
  add_to(result.update, taken_counts());
  result.update_tensor = tensor.taken();
  result.update_data = data.taken();
  if (config.observe.validate_every > 0) model.loss(batch, update.nats(0));
  if (config.observe.sample_every > 0 && config.layout.tensor == 1) {
    const int tokens = std::min(config.observe.sample_tokens + 1, description.context);
    ModelState state = model.make_state(/*sequences=*/1, tokens);
    Buffer<float> logits(static_cast<std::size_t>(description.vocabulary), *kernels.memory);
    model.infer(std::vector<int>{0}, state, logits.matrix(1, description.vocabulary), /*last_only=*/true);
  }
  restart_counts(), tensor.taken();
  result.peak_bytes = counted_peak_bytes();
  return result;
}

}  // namespace slipway
