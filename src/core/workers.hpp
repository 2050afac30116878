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
    max_in_flight_ = max_in_flight(threads);
    {
      std::vector<std::jthread> worker_threads;
      guard([&] {  // where a thread cannot start, those that did are told to end
        worker_threads.push_back(start_thread([&] { guard([&] { read_all(); }); }));
        for (int i = 1; i < threads; ++i) worker_threads.push_back(start_thread([&] { guard([&] { work_all(); }); }));
        work_all();
      });
    }
    if (error_) std::rethrow_exception(error_);
  }

 private:
  using Lock = std::unique_lock<std::mutex>;

  template <class Loop>
  void guard(Loop&& loop) {
    try {
      loop();
    } catch (...) {
      const Lock lock(mutex_);
      if (!error_) error_ = std::current_exception();
      condition_.notify_all();
    }
  }

  void read_all() {
    Lock lock(mutex_);
    while (!end_of_input_) {
      condition_.wait(lock, [&] { return error_ || num_read_ - consumed_ < max_in_flight_; });
      if (error_) return;
      lock.unlock();
      std::optional<Item> item = read();
      lock.lock();
      if (item) queue_.emplace_back(num_read_++, std::move(*item));
      else end_of_input_ = true;
      condition_.notify_all();
    }
  }

  void work_all() {
    Lock lock(mutex_);
    while (true) {
      condition_.wait(lock, [&] { return error_ || end_of_input_ || !queue_.empty(); });
      if (error_ || queue_.empty()) return;
      auto [index, item] = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      work(item);
      lock.lock();
      completed_.emplace(index, std::move(item));
      consume_ready(lock);
    }
  }

  /// Takes what is next in order, unless another thread does so: then that one goes on with this thread's item.
  void consume_ready(Lock& lock) {
    if (std::exchange(is_consuming_, true)) return;
    while (!error_ && !completed_.empty() && completed_.begin()->first == consumed_) {
      auto next = completed_.extract(completed_.begin());
      lock.unlock();
      consume(next.mapped());
      lock.lock();
      ++consumed_;
      condition_.notify_all();
    }
    is_consuming_ = false;
  }

  std::mutex mutex_;  // guards all following members
  std::condition_variable condition_;
  std::deque<std::pair<std::int64_t, Item>> queue_;
  std::map<std::int64_t, Item> completed_;
  std::int64_t num_read_ = 0, consumed_ = 0, max_in_flight_ = 0;
  bool end_of_input_ = false, is_consuming_ = false;
  std::exception_ptr error_;
};

}  // namespace slipway
