// Work for several threads: independent jobs, and a pipeline of items that stay in order.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "src/core/error.hpp"

namespace slipway {

/// A thread. Errors: Fault::kDevice when the system gives none.
template <class Call>
std::jthread start_thread(Call&& call) {
  try {
    return std::jthread(std::forward<Call>(call));
  } catch (const std::system_error& error) {
    throw Error(Fault::kDevice, join("cannot start a thread: ", error.code().message(),
                                     "; raise the limit of processes (ulimit -u) or lower runtime.threads"));
  }
}

/// Runs all jobs in `threads` threads, this one among them, and waits for them. Jobs begin in their order.
/// Errors   what the first job in order that failed threw; jobs that had not begun by then are left out.
void run_jobs(std::span<const std::function<void()>> jobs, int threads);

/// A pipeline: items are read one after the other, processed in threads, and consumed in the order of reading.
///
/// `read()` gives the next item, or nothing at the end; it runs in a thread of its own, ahead of the others.
/// `work(item)` runs in `threads` threads, this one among them. `consume(item)` runs in one thread at a time. What may
/// differ from run to run is only when and where they run. No more than max_in_flight() items exist at once, so that
/// item i may use the buffer of item i - max_in_flight().
/// Errors   what one of the three threw first; the others stop at their next item.
template <class Item>
class OrderedPipeline {
 public:
  std::function<std::optional<Item>()> read;
  std::function<void(Item&)> work;
  std::function<void(Item&)> consume;

  static constexpr std::int64_t max_in_flight(int threads) { return 2 * std::int64_t{threads} + 2; }

  void run(int threads) {
    max_held_ = max_in_flight(threads);
    {
      std::vector<std::jthread> others;
      guard([&] {  // where a thread cannot start, those that did are told to end
        others.push_back(start_thread([&] { guard([&] { read_all(); }); }));
        for (int i = 1; i < threads; ++i) others.push_back(start_thread([&] { guard([&] { work_all(); }); }));
        work_all();
      });
    }
    if (failed_) std::rethrow_exception(failed_);
  }

 private:
  using Lock = std::unique_lock<std::mutex>;

  template <class Loop>
  void guard(Loop&& loop) {
    try {
      loop();
    } catch (...) {
      const Lock lock(mutex_);
      if (!failed_) failed_ = std::current_exception();
      changed_.notify_all();
    }
  }

  void read_all() {
    Lock lock(mutex_);
    while (!ended_) {
      changed_.wait(lock, [&] { return failed_ || read_ - taken_ < max_held_; });
      if (failed_) return;
      lock.unlock();
      std::optional<Item> item = read();
      lock.lock();
      if (item) waiting_.emplace_back(read_++, std::move(*item));
      else ended_ = true;
      changed_.notify_all();
    }
  }

  void work_all() {
    Lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return failed_ || ended_ || !waiting_.empty(); });
      if (failed_ || waiting_.empty()) return;
      auto [place, item] = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      work(item);
      lock.lock();
      done_.emplace(place, std::move(item));
      take_ready(lock);
    }
  }

  /// Takes what is next in order, unless another thread does so: then that one goes on with this thread's item.
  void take_ready(Lock& lock) {
    if (std::exchange(taking_, true)) return;
    while (!failed_ && !done_.empty() && done_.begin()->first == taken_) {
      auto next = done_.extract(done_.begin());
      lock.unlock();
      consume(next.mapped());
      lock.lock();
      ++taken_;
      changed_.notify_all();
    }
    taking_ = false;
  }

  std::mutex mutex_;  // guards all following members
  std::condition_variable changed_;
  std::deque<std::pair<std::int64_t, Item>> waiting_;
  std::map<std::int64_t, Item> done_;
  std::int64_t read_ = 0, taken_ = 0, max_held_ = 0;
  bool ended_ = false, taking_ = false;
  std::exception_ptr failed_;
};

}  // namespace slipway
