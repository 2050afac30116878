#include "src/plan/dry_run.hpp"

#include <algorithm>
#include <iterator>
#include <mutex>
#include <utility>
#include <vector>

#include "comm/mesh.hpp"
#include "src/core/allocation_tag.hpp"
#include "src/core/words.hpp"
#include "src/data/packing.hpp"
#include "src/model/model.hpp"
#include "src/optim/matrix_redistribution.hpp"
#include "src/optim/reduction_slots.hpp"
#include "src/optim/step_update.hpp"

namespace slipway {
namespace {

Counts take_counts() {
  Counts result = counts();
  reset_counts();
  return result;
}

void add_to(Counts& total, const Counts& delta) {
  for (const auto& [key, row] : delta.rows) {
    Counts::Row& total_row = total.rows[key];
    total_row.calls += row.calls, total_row.cost.flops += row.cost.flops, total_row.cost.bytes += row.cost.bytes;
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

/// Rank 0 of a group of hosts or GPUs without its peers: counts what it would send, and receives its own data in place
/// of theirs.
class FakeGroup final : public Group {
 public:
  FakeGroup(int size, const Backend& backend, Reduction reduction) : Group(reduction), size_(size), backend_(backend) {}
  int rank() const override { return 0; }
  int size() const override { return size_; }
  const char* name() const override { return "dry"; }
  MemorySpace& space() const override { return *backend_.memory; }
  bool is_async() const override { return !space().is_host(); }
  void begin_overlap() override {
    end_overlap_region();
    if (size_ > 1 && is_async()) overlapping_ = true, counts_before_ = counts();
  }
  void end_overlap() override {
    end_overlap_region();
    overlapping_ = false;
  }
  void barrier() override {}
  void broadcast(void*, std::size_t count, int) override {
    if (size_ > 1) record_sent(count);
  }
  void all_gather(const void* mine, std::size_t count, void* all) override {
    if (size_ > 1) record_sent(count * static_cast<std::size_t>(size_ - 1));
    for (int r = 0; r < size_; ++r)
      deliver(static_cast<std::byte*>(all) + static_cast<std::size_t>(r) * count, mine, count);
  }
  void send_recv(int, const void* send, void* receive, std::size_t count) override {
    record_sent(count);
    deliver(receive, send, count);
  }

  CommVolume take_volume() { return std::exchange(volume_, {}); }
  double take_matrix_bytes() { return std::exchange(matrix_bytes_, 0.0); }
  std::vector<OverlappedComm> take_overlapped() { return std::exchange(overlapped_, {}); }

 protected:
  bool library_all_reduce(std::span<float> x) override {
    // Else each piece is a message, of 1 MiB on a host: of what no machine holds, a reduce-scatter is counted at once.
    const std::size_t max_chunked_size = is_async() ? std::size_t{1} << 38 : std::size_t{1} << 33;
    const bool library = reduction() == Reduction::kLibrary;
    if (!library && x.size() <= max_chunked_size) return false;
    const std::size_t passes = library ? 2 : 1, ranks = static_cast<std::size_t>(size_);
    if (size_ > 1) record_sent(passes * (x.size_bytes() / ranks) * (ranks - 1));
    return true;
  }
  void add(float* x, const float* y, std::size_t count) override {
    const Counts was = overlapping_ ? counts() : Counts();
    Stream stream;
    backend_.add(stream, {.x = {y, count}, .y = {x, count}});
    if (overlapping_) add_to(counts_before_, difference(counts(), was));  // a message's own, not beside it
  }

 private:
  void record_sent(std::size_t bytes) {
    CommVolume& to = overlapping_ ? overlapped_volume_ : volume_;
    ++to.messages, to.bytes += static_cast<double>(bytes);
    if (AllocationTag::kind() == MemoryKind::kOrthogonalization) matrix_bytes_ += static_cast<double>(bytes);
  }
  void deliver(void* to, const void* from, std::size_t count) const {
    if (to != from && count <= MetaMemory::kMaxReadableBytes) space().copy(to, from, count);
  }
  /// What was asked since begin_overlap() ends here.
  void end_overlap_region() {
    const CommVolume messages = std::exchange(overlapped_volume_, {});
    if (messages.messages > 0) overlapped_.push_back({messages, difference(counts(), counts_before_)});
  }

  int size_;
  const Backend& backend_;
  double matrix_bytes_ = 0;
  CommVolume volume_, overlapped_volume_;
  bool overlapping_ = false;
  Counts counts_before_;
  std::vector<OverlappedComm> overlapped_;
};

/// Muon's matrices travel in messages of 1 MiB, each of which is counted.
void check_messages(const RunConfig& config, const Parameters& parameters, int data_parallel_size) {
  constexpr std::uint64_t kMaxElements = std::uint64_t{1} << 40;  // some millions of messages: seconds
  if (!config.optim.is_muon() || data_parallel_size * config.parallel.tensor == 1) return;
  std::uint64_t elements = 0;
  for (const Parameter& p : parameters.all())
    if (is_hidden_matrix(p)) elements += p.local_size();
  if (elements > kMaxElements)
    throw Error(Fault::kConfig, join("the matrices that Muon sends from rank to rank have ", elements,
                                     " elements on each, but at most ", kMaxElements,
                                     " are expected; lower model.width, model.ffn or model.layers, raise mesh.tensor, "
                                     "or set optim.name = adamw"));
}

/// What the rank writes of a checkpoint (Trainer::slices).
std::uint64_t checkpoint_bytes_of(StepUpdate& update) {
  std::uint64_t elements = update.shards().frozen(/*data_rank=*/0).count;
  for (const OptimizerShard& shard : update.optimizer().shards()) {
    elements += shard.slice.count;
    for (const OptimizerShard::Moment& moment : shard.moments) elements += moment.values.size();
  }
  return elements * sizeof(float);
}

/// What a validation and a sample allocate in addition to a step.
void validate_and_sample(const RunConfig& config, Model& model, const Batch& batch, double* loss_sum) {
  if (config.reporting.validate_every > 0) model.loss(batch, loss_sum);
  if (config.reporting.sample_every == 0 || config.parallel.tensor > 1) return;
  const int tokens = std::min(config.reporting.sample_tokens + 1, model.spec().context), V = model.spec().vocabulary;
  InferenceState state = model.make_state(/*sequences=*/1, tokens);
  const AllocationTag tag(MemoryKind::kLogits, "the logits");
  Buffer<float> logits(static_cast<std::size_t>(V), *model.backend().memory);
  model.infer(std::vector<int>{0}, state, logits.matrix(1, V), /*last_only=*/true);
}

/// What is listed one by one: the tokens of a batch, which is a real one though nothing is computed with it, and slots.
void check_countable(const RunConfig& config, int data_parallel_size) {
  constexpr std::int64_t kMaxTokens = 1 << 22, kMaxSlots = 1 << 16;
  if (config.numerics.slots / data_parallel_size > kMaxSlots)
    throw Error(Fault::kConfig,
                join("numerics.slots is ", config.numerics.slots, ", but the ops of at most ", kMaxSlots,
                     " on each of ", pluralize(data_parallel_size, "data rank"), " can be listed for a GPU; lower it"));
  if (const std::int64_t tokens = std::int64_t{config.train.micro_batch} * config.train.sequence; tokens > kMaxTokens)
    throw Error(Fault::kConfig, join("train.micro_batch ", config.train.micro_batch, " x train.sequence ",
                                     config.train.sequence, " are ", tokens, " tokens at once, but the ops of at most ",
                                     kMaxTokens, " can be listed for a GPU; lower one of them"));
}

}  // namespace

double DryRun::micro_batch_tensor_parallel_bytes() const {
  double bytes = micro_batch_tensor.bytes;
  for (const OverlappedComm& one : micro_batch_overlapped) bytes += one.messages.bytes;
  return bytes;
}

DryRun dry_run(const RunConfig& config, const ModelSpec& spec, int data_parallel_size) {
  check_countable(config, data_parallel_size);
  static std::mutex dry_run_mutex;  // there is one shape-only backend, and ranks may be threads
  const std::scoped_lock lock(dry_run_mutex);
  const Backend& backend = meta_backend(config.on_host);
  reset_meta_memory(config.on_host);
  const Reduction reduction = config.numerics.collective_reduction();
  auto data_group = std::make_unique<FakeGroup>(data_parallel_size, backend, reduction),
       tensor_group = std::make_unique<FakeGroup>(config.parallel.tensor, backend, reduction);
  FakeGroup &data = *data_group, &tensor = *tensor_group;
  Mesh mesh{std::move(data_group), std::move(tensor_group)};
  const ReductionSlots slots =
      ReductionSlots::make(config.train.batch, config.train.micro_batch, config.numerics.slots, data_parallel_size);
  Model model(
      spec, backend, *mesh.tensor,
      {.compute_dtype = config.compute_dtype(), .slots = config.numerics.slots, .recompute = config.recompute()});
  model.parameters().enable_gradients();
  check_messages(config, model.parameters(), data_parallel_size);
  StepUpdate update(config.optim, model.parameters(), backend, mesh, slots, config.parallel.offload);
  model.update_compute_copy();
  Batch batch;
  synthetic_batch(config.train.micro_batch, config.train.sequence, batch);
  reset_counts(), tensor.take_volume(), data.take_volume();

  DryRun result{.micro_batches = slots.slots_per_rank() * slots.micro_batches_per_slot(),
                .checkpoint_bytes = checkpoint_bytes_of(update)};
  const auto micro_batch = [&] {
    model.forward(batch, 1.0f, update.loss_sum(0));
    model.backward();
  };
  micro_batch();
  result.matmuls = counted_gemms();
  result.micro_batch = take_counts();
  result.micro_batch_tensor = tensor.take_volume();
  result.micro_batch_overlapped = tensor.take_overlapped();

  // Peak memory depends on the order of allocations: the second batch has buffers of its own as well as the first's.
  // Later ones allocate nothing.
  for (int slot = 0; slot < slots.slots_per_rank(); ++slot) {
    if (slot == (slots.micro_batches_per_slot() > 1 ? 0 : 1)) micro_batch();
    reset_counts(), tensor.take_volume(), tensor.take_overlapped();
    update.finish_slot();
    add_to(result.update, take_counts());
  }
  update.check_finite();
  update.reduce_gradients();
  update.apply(/*step=*/0, /*lr=*/1e-3);
  std::ranges::copy(counted_gemms(), std::back_inserter(result.matmuls));
  add_to(result.update, take_counts());
  result.update_tensor = tensor.take_volume();
  result.update_data = data.take_volume();
  result.matrix_bytes = data.take_matrix_bytes();
  validate_and_sample(config, model, batch, update.loss_sum(0));
  reset_counts(), tensor.take_volume();
  result.peak_bytes = backend.memory->peak_bytes();
  result.memory = meta_memory(config.on_host).at_peak();
  result.staging = meta_memory(config.on_host).staging_at_peak();
  return result;
}

}  // namespace slipway
