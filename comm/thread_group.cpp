#include "comm/thread_group.hpp"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>
#include <tuple>
#include <utility>

#include "comm/watchdog.hpp"
#include "src/core/error.hpp"

namespace slipway {
namespace {

/// What all threads of a run share, whatever groups they form: one lock, one condition, the first failure.
struct SharedState {
  std::mutex mutex;
  std::condition_variable condition;
  std::exception_ptr first_error;
  std::string error_text;
};

/// A buffer of one rank that its peers may read for the duration of a call.
struct SharedBuffer {
  const void* bytes = nullptr;
  std::size_t count = 0;
  bool is_pending = false;  // lent, and not yet taken
};

/// The state that the ranks of one group share.
struct GroupState {
  GroupState(std::shared_ptr<SharedState> threads, std::vector<int> members)
      : shared(std::move(threads)),
        world_ranks(std::move(members)),
        published_buffers(world_ranks.size()),
        mailboxes(world_ranks.size() * world_ranks.size()) {}

  std::shared_ptr<SharedState> shared;
  std::vector<int> world_ranks;
  int arrived = 0;
  long round = 0;
  std::vector<SharedBuffer> published_buffers;  // to all, between two barriers
  std::vector<SharedBuffer> mailboxes;          // from member to member: [from * size + to]
};

class ThreadGroup final : public Group {
 public:
  ThreadGroup(int rank, std::shared_ptr<GroupState> state, Reduction reduction)
      : Group(reduction), rank_(rank), state_(std::move(state)) {}

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(state_->world_ranks.size()); }
  const char* name() const override { return "threads"; }
  int world_rank(int member) const override { return state_->world_ranks[static_cast<std::size_t>(member)]; }

  // Buffers are copied while the lock of SharedState is held: a rank that unwinds needs that lock to leave, so the
  // buffer that it published stays valid.

  void barrier() override {
    const CollectiveScope call("barrier", world_rank(rank_));
    std::unique_lock lock(state_->shared->mutex);
    barrier_locked(lock);
  }

  void broadcast(void* bytes, std::size_t count, int root) override {
    const CollectiveScope call("broadcast", world_rank(rank_), root == rank_ ? -1 : world_rank(root));
    std::unique_lock lock(state_->shared->mutex);
    publish(lock, bytes, count);
    if (rank_ != root) copy_from(state_->published_buffers[static_cast<std::size_t>(root)], bytes, count);
    barrier_locked(lock);
  }

  void all_gather(const void* send, std::size_t count, void* receive) override {
    const CollectiveScope call("all_gather", world_rank(rank_));
    std::unique_lock lock(state_->shared->mutex);
    publish(lock, send, count);
    std::byte* destination = static_cast<std::byte*>(receive);
    for (const SharedBuffer& source : state_->published_buffers) {
      copy_from(source, destination, count);
      destination += count;
    }
    barrier_locked(lock);
  }

  void send_recv(int peer, const void* send, void* receive, std::size_t count) override {
    const CollectiveScope call("send_recv", world_rank(rank_), world_rank(peer));
    SharedBuffer& outbox = mailbox(rank_, peer);
    SharedBuffer& inbox = mailbox(peer, rank_);
    std::unique_lock lock(state_->shared->mutex);
    outbox = {send, count, true};
    state_->shared->condition.notify_all();
    wait(lock, [&] { return inbox.is_pending; });
    copy_from(inbox, receive, count);
    inbox.is_pending = false;
    state_->shared->condition.notify_all();
    wait(lock, [&] { return !outbox.is_pending; });
  }

  const std::shared_ptr<SharedState>& shared() const { return state_->shared; }

 private:
  SharedBuffer& mailbox(int from, int to) { return state_->mailboxes[static_cast<std::size_t>(from * size() + to)]; }

  template <class Predicate>
  void wait(std::unique_lock<std::mutex>& lock, const Predicate& predicate) {
    SharedState& shared = *state_->shared;
    shared.condition.wait(lock, [&] { return predicate() || shared.first_error; });
    if (shared.first_error)
      throw Error(Fault::kComm, join("rank ", world_rank(rank_), " waits for a rank that failed: ", shared.error_text));
  }

  void barrier_locked(std::unique_lock<std::mutex>& lock) {
    const long round = state_->round;
    if (++state_->arrived == size()) {
      state_->arrived = 0;
      ++state_->round;
      state_->shared->condition.notify_all();
    }
    wait(lock, [&] { return state_->round != round; });
  }

  void publish(std::unique_lock<std::mutex>& lock, const void* bytes, std::size_t count) {
    state_->published_buffers[static_cast<std::size_t>(rank_)] = {bytes, count, true};
    barrier_locked(lock);
  }

  static void copy_from(const SharedBuffer& source, void* bytes, std::size_t count) {
    require(source.count == count, "the ranks of a collective call disagree about the count");
    if (count > 0 && bytes != source.bytes) std::memcpy(bytes, source.bytes, count);
  }

  int rank_;
  std::shared_ptr<GroupState> state_;
};

}  // namespace

void run_thread_group(int size, const std::function<void(Group&)>& work) {
  require(size >= 1, "run_thread_group: at least one rank");
  const auto shared = std::make_shared<SharedState>();
  std::vector<int> world_ranks(static_cast<std::size_t>(size));
  for (int r = 0; r < size; ++r) world_ranks[static_cast<std::size_t>(r)] = r;
  const auto state = std::make_shared<GroupState>(shared, world_ranks);

  const auto run = [&](int rank) {
    std::exception_ptr error;
    std::string error_text;
    try {
      ThreadGroup group(rank, state, Reduction::kCanonical);
      work(group);
    } catch (const std::exception& caught) {
      error = std::current_exception();
      error_text = join("rank ", rank, ": ", caught.what());
    }
    if (!error) return;
    const std::lock_guard lock(shared->mutex);
    if (!shared->first_error) std::tie(shared->first_error, shared->error_text) = std::tie(error, error_text);
    shared->condition.notify_all();
  };
  {
    std::vector<std::jthread> threads;
    for (int r = 0; r < size; ++r) threads.emplace_back(run, r);
  }
  if (shared->first_error) std::rethrow_exception(shared->first_error);
}

std::unique_ptr<Group> split_threads(Group& group, int color, int key, Reduction reduction) {
  if (group.size() == 1) return make_self_group(reduction);
  auto* threads = dynamic_cast<ThreadGroup*>(&group);
  require(threads != nullptr, "split_threads: not a group of threads");

  struct Entry {
    int color, key, rank;
  };
  const Entry local_entry{color, key, group.rank()};
  std::vector<Entry> entries(static_cast<std::size_t>(group.size()));
  group.all_gather(&local_entry, sizeof local_entry, entries.data());
  std::erase_if(entries, [&](const Entry& entry) { return entry.color != color; });
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return std::pair(a.key, a.rank) < std::pair(b.key, b.rank); });

  int rank = 0;
  std::vector<int> world_ranks;
  for (const Entry& entry : entries) {
    if (entry.rank == group.rank()) rank = static_cast<int>(world_ranks.size());
    world_ranks.push_back(group.world_rank(entry.rank));
  }

  // The first member makes the table; the others copy the pointer to it while all of them wait.
  std::shared_ptr<GroupState> state;
  if (rank == 0) state = std::make_shared<GroupState>(threads->shared(), world_ranks);
  const std::shared_ptr<GroupState>* state_pointer = &state;
  std::vector<const std::shared_ptr<GroupState>*> state_pointers(static_cast<std::size_t>(group.size()));
  // NOLINTNEXTLINE(bugprone-sizeof-expression): the pointer is sent
  group.all_gather(&state_pointer, sizeof state_pointer, state_pointers.data());
  if (rank != 0) state = *state_pointers[static_cast<std::size_t>(entries.front().rank)];
  group.barrier();
  return std::make_unique<ThreadGroup>(rank, std::move(state), reduction);
}

}  // namespace slipway
