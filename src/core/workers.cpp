#include "src/core/workers.hpp"

#include <algorithm>

namespace slipway {

void run_jobs(std::span<const std::function<void()>> jobs, int threads) {
  std::mutex mutex;  // guards the following members
  std::size_t next = 0, first_failed_job = jobs.size();
  std::exception_ptr first_error;
  const auto work = [&] {
    std::unique_lock lock(mutex);
    while (next < jobs.size() && !first_error) {
      const std::size_t job = next++;
      lock.unlock();
      std::exception_ptr error;
      try {
        jobs[job]();
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      if (error && job < first_failed_job) first_failed_job = job, first_error = error;
    }
  };
  {
    std::vector<std::jthread> worker_threads;
    const auto num_threads = static_cast<int>(std::min<std::size_t>(jobs.size(), static_cast<std::size_t>(threads)));
    for (int i = 1; i < num_threads; ++i) worker_threads.push_back(start_thread(work));
    work();
  }
  if (first_error) std::rethrow_exception(first_error);
}

}  // namespace slipway
