#include "src/core/workers.hpp"

#include <algorithm>

namespace slipway {

void run_jobs(std::span<const std::function<void()>> jobs, int threads) {
  std::mutex mutex;  // guards the following members
  std::size_t next = 0, failed_job = jobs.size();
  std::exception_ptr failed;
  const auto work = [&] {
    std::unique_lock lock(mutex);
    while (next < jobs.size() && !failed) {
      const std::size_t job = next++;
      lock.unlock();
      std::exception_ptr wrong;
      try {
        jobs[job]();
      } catch (...) {
        wrong = std::current_exception();
      }
      lock.lock();
      if (wrong && job < failed_job) failed_job = job, failed = wrong;
    }
  };
  {
    std::vector<std::jthread> others;
    const auto useful = static_cast<int>(std::min<std::size_t>(jobs.size(), static_cast<std::size_t>(threads)));
    for (int i = 1; i < useful; ++i) others.push_back(start_thread(work));
    work();
  }
  if (failed) std::rethrow_exception(failed);
}

}  // namespace slipway
