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

/// What all threads of a run share, whatever groups they form: one lock, one bell, the first failure.
struct Hall {
  std::mutex mutex;
  std::condition_variable bell;
  std::exception_ptr first_error;
  std::string why;
};

/// Bytes that one member lends its peers for the length of a call.
struct Lent {
  const void* bytes = nullptr;
  std::size_t count = 0;
  bool out = false;  // lent, and not yet taken
};

/// Where the members of one group meet.
struct Table {
  Table(std::shared_ptr<Hall> hall_, std::vector<int> world_ranks_)
      : hall(std::move(hall_)),
        world_ranks(std::move(world_ranks_)),
        shown(world_ranks.size()),
        letters(world_ranks.size() * world_ranks.size()) {}

  std::shared_ptr<Hall> hall;
  std::vector<int> world_ranks;
  int arrived = 0;
  long round = 0;
  std::vector<Lent> shown;    // to all, between two barriers
  std::vector<Lent> letters;  // from member to member: [from * size + to]
};

class ThreadGroup final : public Group {
 public:
  ThreadGroup(int rank, std::shared_ptr<Table> table) : rank_(rank), table_(std::move(table)) {}

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(table_->world_ranks.size()); }
  const char* name() const override { return "threads"; }
  int world_rank(int member) const override { return table_->world_ranks[static_cast<std::size_t>(member)]; }

  // Bytes are copied under the hall's lock: a lender that unwinds needs the lock to leave, so what it lent stays in
  // place.

  void barrier() override {
    const Call call("barrier", world_rank(rank_));
    std::unique_lock lock(table_->hall->mutex);
    meet(lock);
  }

  void broadcast(void* bytes, std::size_t count, int root) override {
    const Call call("broadcast", world_rank(rank_), root == rank_ ? -1 : world_rank(root));
    std::unique_lock lock(table_->hall->mutex);
    show(lock, bytes, count);
    if (rank_ != root) take(table_->shown[static_cast<std::size_t>(root)], bytes, count);
    meet(lock);
  }

  void all_gather(const void* mine, std::size_t count, void* all) override {
    const Call call("all_gather", world_rank(rank_));
    std::unique_lock lock(table_->hall->mutex);
    show(lock, mine, count);
    std::byte* place = static_cast<std::byte*>(all);
    for (const Lent& lent : table_->shown) {
      take(lent, place, count);
      place += count;
    }
    meet(lock);
  }

  void exchange(int peer, const void* send, void* receive, std::size_t count) override {
    const Call call("exchange", world_rank(rank_), world_rank(peer));
    Lent& mine = letter(rank_, peer);
    Lent& theirs = letter(peer, rank_);
    std::unique_lock lock(table_->hall->mutex);
    mine = {send, count, true};
    table_->hall->bell.notify_all();
    wait(lock, [&] { return theirs.out; });
    take(theirs, receive, count);
    theirs.out = false;
    table_->hall->bell.notify_all();
    wait(lock, [&] { return !mine.out; });
  }

  const std::shared_ptr<Hall>& hall() const { return table_->hall; }

 private:
  Lent& letter(int from, int to) { return table_->letters[static_cast<std::size_t>(from * size() + to)]; }

  template <class Done>
  void wait(std::unique_lock<std::mutex>& lock, const Done& done) {
    Hall& hall = *table_->hall;
    hall.bell.wait(lock, [&] { return done() || hall.first_error; });
    if (hall.first_error)
      throw Error(Fault::kComm, join("rank ", world_rank(rank_), " waits for a rank that failed: ", hall.why));
  }

  void meet(std::unique_lock<std::mutex>& lock) {
    const long round = table_->round;
    if (++table_->arrived == size()) {
      table_->arrived = 0;
      ++table_->round;
      table_->hall->bell.notify_all();
    }
    wait(lock, [&] { return table_->round != round; });
  }

  void show(std::unique_lock<std::mutex>& lock, const void* bytes, std::size_t count) {
    table_->shown[static_cast<std::size_t>(rank_)] = {bytes, count, true};
    meet(lock);
  }

  static void take(const Lent& lent, void* bytes, std::size_t count) {
    require(lent.count == count, "the ranks of a collective call disagree about the count");
    if (count > 0 && bytes != lent.bytes) std::memcpy(bytes, lent.bytes, count);
  }

  int rank_;
  std::shared_ptr<Table> table_;
};

}  // namespace

void run_thread_group(int size, const std::function<void(Group&)>& work) {
  require(size >= 1, "run_thread_group: at least one rank");
  const auto hall = std::make_shared<Hall>();
  std::vector<int> world_ranks(static_cast<std::size_t>(size));
  for (int r = 0; r < size; ++r) world_ranks[static_cast<std::size_t>(r)] = r;
  const auto table = std::make_shared<Table>(hall, world_ranks);

  const auto run = [&](int rank) {
    std::exception_ptr error;
    std::string why;
    try {
      ThreadGroup group(rank, table);
      work(group);
    } catch (const std::exception& caught) {
      error = std::current_exception();
      why = join("rank ", rank, ": ", caught.what());
    }
    if (!error) return;
    const std::lock_guard lock(hall->mutex);
    if (!hall->first_error) std::tie(hall->first_error, hall->why) = std::tie(error, why);
    hall->bell.notify_all();
  };
  {
    std::vector<std::jthread> threads;
    for (int r = 0; r < size; ++r) threads.emplace_back(run, r);
  }
  if (hall->first_error) std::rethrow_exception(hall->first_error);
}

std::unique_ptr<Group> split_threads(Group& all, int color, int key) {
  if (all.size() == 1) return make_self_group();
  auto* threads = dynamic_cast<ThreadGroup*>(&all);
  require(threads != nullptr, "split_threads: not a group of threads");

  struct Entry {
    int color, key, rank;
  };
  const Entry mine{color, key, all.rank()};
  std::vector<Entry> entries(static_cast<std::size_t>(all.size()));
  all.all_gather(&mine, sizeof mine, entries.data());
  std::erase_if(entries, [&](const Entry& entry) { return entry.color != color; });
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return std::pair(a.key, a.rank) < std::pair(b.key, b.rank); });

  int rank = 0;
  std::vector<int> world_ranks;
  for (const Entry& entry : entries) {
    if (entry.rank == all.rank()) rank = static_cast<int>(world_ranks.size());
    world_ranks.push_back(all.world_rank(entry.rank));
  }

  // The first member makes the table; the others copy the pointer to it while all of them wait.
  std::shared_ptr<Table> table;
  if (rank == 0) table = std::make_shared<Table>(threads->hall(), world_ranks);
  const std::shared_ptr<Table>* place = &table;
  std::vector<const std::shared_ptr<Table>*> places(static_cast<std::size_t>(all.size()));
  all.all_gather(&place, sizeof place, places.data());
  if (rank != 0) table = *places[static_cast<std::size_t>(entries.front().rank)];
  all.barrier();
  return std::make_unique<ThreadGroup>(rank, std::move(table));
}

}  // namespace slipway
