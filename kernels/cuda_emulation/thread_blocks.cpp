#include "kernels/cuda_emulation/thread_blocks.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <boost/context/detail/fcontext.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/cuda_emulation/environment.hpp"
#include "kernels/cuda_emulation/streams.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace slipway::cuda_emulation {

constinit thread_local ThreadCoords coords;

namespace {

using boost::context::detail::fcontext_t;
using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

constexpr int kWarp = 32;
constexpr std::size_t kStackBytes = 256 << 10;
constexpr std::size_t kSharedLimit = 48 << 10;  // bytes per block, on every architecture that the kernels are built for

ThreadOrder& order() {
  static ThreadOrder chosen = [] {
    const Choice setting = choice_from_environment(
        "SLIPWAY_THREAD_ORDER", {"ascending", "descending", "shuffled"});  // as ThreadOrder::Kind has them
    return ThreadOrder{static_cast<ThreadOrder::Kind>(setting.word), setting.seed};
  }();
  return chosen;
}

/// A small random generator (Marsaglia's xorshift).
class Rng {
 public:
  explicit Rng(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull | 1) {}
  std::size_t below(std::size_t limit) {
    state_ ^= state_ << 13, state_ ^= state_ >> 7, state_ ^= state_ << 17;
    return static_cast<std::size_t>(state_ % limit);
  }

 private:
  std::uint64_t state_;
};

/// A stack with a guard page below it.
class Stack {
 public:
  Stack()
      : base_(static_cast<char*>(
            mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    if (base_ == MAP_FAILED || mprotect(base_, kGuardBytes, PROT_NONE) != 0) {
      std::fputs("CUDA emulation: no memory for a thread's stack\n", stderr);
      std::abort();
    }
  }
  ~Stack() { munmap(base_, kStackBytes); }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  char* top() const { return base_ + kStackBytes; }
  const char* bottom() const { return base_ + kGuardBytes; }
  static constexpr std::size_t size() { return kStackBytes - kGuardBytes; }

 private:
  static constexpr std::size_t kGuardBytes = 4096;
  char* base_;
};

struct Fiber {
  Stack stack;
  fcontext_t context = nullptr;
  void* fake_stack = nullptr;  // the address sanitizer's
};

struct Lane {
  enum State { kUnstarted, kReady, kWaiting, kEnded } state = kUnstarted;
  ThreadCoords coords;
  Fiber* fiber = nullptr;       // while it waits
  const char* waiting_on = "";  // for reports: a barrier, or a collective with its mask
  unsigned mask = 0;
  std::source_location location;
  void* data = nullptr;

  struct AsyncCopy {
    void* to;
    const void* from;
    std::size_t bytes;
    void perform() const {
      if (from == nullptr) std::memset(to, 0, bytes);
      else std::memcpy(to, from, bytes);
    }
  };
  std::deque<std::vector<AsyncCopy>> copy_groups{1};  // groups of copies; the last one is not committed yet
};

/// Idle fibers, reused from kernel to kernel.
class FiberPool {
 public:
  Fiber* acquire() {
    if (idle_.empty()) {
      all_.push_back(std::make_unique<Fiber>());
      return all_.back().get();
    }
    Fiber* fiber = idle_.back();
    idle_.pop_back();
    return fiber;
  }
  void release(Fiber* fiber) { idle_.push_back(fiber); }

 private:
  std::vector<std::unique_ptr<Fiber>> all_;
  std::vector<Fiber*> idle_;
};

class Block;
thread_local Block* running_block = nullptr;
thread_local FiberPool pool;

/// Runs one block at a time.
class Block {
 public:
  Block(const char* kernel, dim3 grid, dim3 block, const std::function<void()>& body)
      : kernel_(kernel), body_(body), lanes_(std::size_t{block.x} * block.y * block.z) {
    for (std::size_t i = 0; i < lanes_.size(); ++i) {
      lanes_[i].coords.block_dim = block;
      lanes_[i].coords.grid_dim = grid;
      const auto at = static_cast<unsigned>(i);
      lanes_[i].coords.thread = {at % block.x, at / block.x % block.y, at / (block.x * block.y)};
    }
  }

  void run(uint3 index, std::uint64_t number) {
    for (auto& [id, memory] : shared_variables_) std::ranges::fill(memory, '\xff');
    num_at_barrier_ = num_ended_ = 0;
    run_queue_.clear();
    pending_collectives_.assign((lanes_.size() + kWarp - 1) / kWarp, {});
    for (std::size_t i = 0; i < lanes_.size(); ++i) {
      lanes_[i].state = Lane::kUnstarted;
      lanes_[i].coords.block = index;
      run_queue_.push_back(i);
    }
    rng_ = Rng(order().seed + number);
    Block* const outer = std::exchange(running_block, this);
    const ThreadCoords outer_place = coords;
    while (num_ended_ < lanes_.size()) {
      if (run_queue_.empty()) report_deadlock();
      resume(next_thread());
    }
    coords = outer_place;
    running_block = outer;
  }

  void sync(std::source_location location) {
    Lane& lane = lanes_[current_];
    if (num_at_barrier_ > 0 &&
        (location.line() != barrier_.line() || std::string_view(location.file_name()) != barrier_.file_name())) {
      std::string other = std::string("threads of one block wait at different barriers, the other at ") +
                          barrier_.file_name() + ":" + std::to_string(barrier_.line());
      report_and_abort(other.c_str(), location);
    }
    barrier_ = location;
    if (++num_at_barrier_ < lanes_.size()) return wait(lane, "__syncthreads", 0, location);
    num_at_barrier_ = 0;
    for (std::size_t i = 0; i < lanes_.size(); ++i)
      if (i != current_) make_ready(i);
    reschedule();
  }

  void join_collective(unsigned mask, const char* what, void* data, void (*combine)(void* const[32]),
                       std::source_location location) {
    const std::size_t first = current_ / kWarp * kWarp;
    const int num_expected = __builtin_popcount(mask);
    PendingCollective& pending = pending_collectives_[current_ / kWarp];
    // The same call as the thread before: the last thread checks all of them.
    if (pending.matches(mask, what, location) && pending.arrived + 1 < num_expected) {
      ++pending.arrived;
      lanes_[current_].data = data;
      return wait(lanes_[current_], what, mask, location);
    }
    if ((mask >> (current_ - first) & 1u) == 0)
      report_and_abort("the mask does not name the thread that calls with it", location);
    void* lane_data[kWarp] = {};
    std::size_t others[kWarp];
    int count = 0;
    Lane& self = lanes_[current_];
    for (std::size_t bit = 0; bit < kWarp; ++bit) {
      if ((mask >> bit & 1u) == 0) continue;
      const std::size_t i = first + bit;
      if (i >= lanes_.size()) report_and_abort("the mask names a thread that the block does not have", location);
      if (i == current_) continue;
      const Lane& lane = lanes_[i];
      if (lane.state == Lane::kEnded) report_and_abort("the mask names a thread that has left the kernel", location);
      if (lane.state != Lane::kWaiting || lane.mask == 0) continue;
      const bool same =
          lane.mask == mask && lane.location.line() == location.line() && std::string_view(lane.waiting_on) == what;
      if (!same && (lane.mask >> (current_ - first) & 1u) != 0)
        report_and_abort("threads that name each other met in different collectives", location);
      if (!same) continue;
      lane_data[bit] = lane.data;
      others[count++] = i;
    }
    if (count + 1 < num_expected) {
      pending = {mask, what, location.line(), count + 1};
      self.data = data;
      return wait(self, what, mask, location);
    }
    pending = {};
    lane_data[current_ - first] = data;
    combine(lane_data);
    for (int i = 0; i < count; ++i) make_ready(others[i]);
    reschedule();
  }

  void* variable(const void* id, std::size_t bytes, std::size_t alignment) {
    auto& memory = shared_variables_[id];
    if (memory.empty()) {
      shared_bytes_ += bytes;
      if (shared_bytes_ > kSharedLimit) report_and_abort("a block has no more than 48 KiB of shared memory");
      memory.assign(bytes + alignment, '\xff');
    }
    const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
    return memory.data() + (alignment - address % alignment) % alignment;
  }

  void cp_async(const Lane::AsyncCopy& copy, std::source_location location) {
    const auto is_misaligned = [&](const void* at) { return reinterpret_cast<std::uintptr_t>(at) % copy.bytes != 0; };
    if (is_misaligned(copy.to) || is_misaligned(copy.from))
      report_and_abort("an asynchronous copy's place is no multiple of its size", location);
    if (!is_shared(copy.to, copy.bytes))
      report_and_abort("an asynchronous copy goes elsewhere than into shared memory", location);
    const ThreadOrder::Kind kind = order().kind;
    if (kind == ThreadOrder::kDescending || (kind == ThreadOrder::kShuffled && rng_.below(2) == 0)) copy.perform();
    else lanes_[current_].copy_groups.back().push_back(copy);
  }
  void cp_async_commit() { lanes_[current_].copy_groups.emplace_back(); }
  void cp_async_wait(std::size_t max_pending) {
    auto& groups = lanes_[current_].copy_groups;
    for (; groups.size() > max_pending + 1; groups.pop_front())
      for (const Lane::AsyncCopy& copy : groups.front()) copy.perform();
  }

  int lane_in_warp() const { return static_cast<int>(current_ % kWarp); }
  const char* kernel() const { return kernel_; }

 private:
  bool is_shared(const void* at, std::size_t bytes) const {
    const auto* first = static_cast<const char*>(at);
    return std::ranges::any_of(shared_variables_, [&](const auto& one) {
      return first >= one.second.data() && first + bytes <= one.second.data() + one.second.size();
    });
  }

  /// The thread to run next: one that is ready, or one that has not started.
  std::size_t next_thread() {
    std::size_t at = 0;
    switch (order().kind) {
      case ThreadOrder::kAscending: break;
      case ThreadOrder::kDescending: at = run_queue_.size() - 1; break;
      case ThreadOrder::kShuffled: at = rng_.below(run_queue_.size()); break;
    }
    const std::size_t lane = run_queue_[at];
    if (at == 0) run_queue_.pop_front();
    else std::swap(run_queue_[at], run_queue_.back()), run_queue_.pop_back();
    return lane;
  }

  void make_ready(std::size_t lane) {
    lanes_[lane].state = Lane::kReady;
    run_queue_.push_back(lane);
  }

  void resume(std::size_t lane) {
    current_ = lane;
    Fiber* fiber = lanes_[lane].fiber;
    if (lanes_[lane].state == Lane::kUnstarted) {
      fiber = pool.acquire();
      if (fiber->context == nullptr) fiber->context = make_fcontext(fiber->stack.top(), Stack::size(), run_lanes);
    }
    lanes_[lane].fiber = nullptr;
    switch_to(*fiber);
  }

  /// The loop of a fiber: runs the thread it was entered for, then is idle until it is entered again.
  static void run_lanes(transfer_t from) {
    Block* block = static_cast<Block*>(from.data);
    block->arrived(from, nullptr);
    for (;;) {
      block = running_block;
      Lane& lane = block->lanes_[block->current_];
      coords = lane.coords;
      block->body_();
      for (const auto& group : lane.copy_groups)
        if (!group.empty()) report_and_abort("a thread ends with asynchronous copies that nobody waited for");
      lane.copy_groups.resize(1);
      lane.state = Lane::kEnded;
      ++block->num_ended_;
      pool.release(block->active_fiber_);
      block->switch_to_scheduler();
    }
  }

  void wait(Lane& lane, const char* what, unsigned mask, std::source_location location) {
    lane.state = Lane::kWaiting;
    lane.waiting_on = what, lane.mask = mask, lane.location = location;
    pause(lane);
  }
  /// Lets another thread run, so that the last thread to arrive is not always the first to continue.
  void reschedule() {
    if (run_queue_.empty()) return;
    make_ready(current_);
    pause(lanes_[current_]);
  }
  void pause(Lane& lane) {
    lane.fiber = active_fiber_;
    switch_to_scheduler();
    coords = lane.coords;
  }

  // Switches between the scheduler's stack and the fibers', and notifies the address sanitizer.
  void switch_to(Fiber& fiber) {
    active_fiber_ = &fiber;
#if defined(__SANITIZE_ADDRESS__)
    void* own_fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&own_fake_stack, fiber.stack.bottom(), Stack::size());
#endif
    const transfer_t back = jump_fcontext(fiber.context, this);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(own_fake_stack, nullptr, nullptr);
#endif
    fiber.context = back.fctx;
  }
  void switch_to_scheduler() {
    Fiber& fiber = *active_fiber_;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&fiber.fake_stack, scheduler_bottom_, scheduler_size_);
#endif
    const transfer_t back = jump_fcontext(scheduler_, nullptr);
    running_block->arrived(back, fiber.fake_stack);
  }
  void arrived(transfer_t from, [[maybe_unused]] void* fake_stack) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack, &scheduler_bottom_, &scheduler_size_);
#endif
    scheduler_ = from.fctx;
  }

  [[noreturn]] void report_deadlock() {
    std::map<std::string, int> waiting;
    for (const Lane& lane : lanes_)
      if (lane.state == Lane::kWaiting) {
        char words[256];
        std::snprintf(words, sizeof words, "at %s %s:%u", lane.waiting_on, lane.location.file_name(),
                      lane.location.line());
        ++waiting[words];
      }
    std::string text = "deadlock: ";
    for (const auto& [words, count] : waiting) text += std::to_string(count) + " threads " + words + ", ";
    text += std::to_string(num_ended_) + " have ended";
    coords = lanes_.front().coords;
    report_and_abort(text.c_str());
  }

  /// The collective that the threads of a warp last arrived at.
  struct PendingCollective {
    unsigned mask = 0;
    const char* what = nullptr;
    unsigned line = 0;
    int arrived = 0;
    bool matches(unsigned expected_mask, const char* name, const std::source_location& location) const {
      return arrived > 0 && mask == expected_mask && what == name && line == location.line();
    }
  };

  const char* kernel_;
  const std::function<void()>& body_;
  std::map<const void*, std::vector<char>> shared_variables_;
  std::size_t shared_bytes_ = 0;
  std::vector<Lane> lanes_;
  std::deque<std::size_t> run_queue_;                   // threads that may run
  std::vector<PendingCollective> pending_collectives_;  // one per warp
  std::size_t current_ = 0, num_at_barrier_ = 0, num_ended_ = 0;
  std::source_location barrier_;
  Rng rng_{1};
  Fiber* active_fiber_ = nullptr;
  fcontext_t scheduler_ = nullptr;
  [[maybe_unused]] const void* scheduler_bottom_ = nullptr;
  [[maybe_unused]] std::size_t scheduler_size_ = 0;
};

/// The kernel at which this process loses its device; 0: never. SLIPWAY_HOST_DEVICE_FAILS=N, or N@RANK of mpirun.
std::uint64_t failing_kernel() {
  const char *setting = std::getenv("SLIPWAY_HOST_DEVICE_FAILS"), *rank = std::getenv("OMPI_COMM_WORLD_RANK");
  if (setting == nullptr) return 0;
  char* end = nullptr;
  const std::uint64_t kernel = std::strtoull(setting, &end, 10);
  return *end == '@' && (rank == nullptr || std::string_view(rank) != end + 1) ? 0 : kernel;
}

}  // namespace

void set_thread_order(ThreadOrder chosen) { order() = chosen; }

void run_grid(const char* kernel, dim3 grid, dim3 block, const std::function<void()>& body) {
  static const std::uint64_t failing_launch = failing_kernel();
  static std::uint64_t num_launches = 0;
  if (++num_launches == failing_launch) return inject_device_loss();
  Block runner(kernel, grid, block, body);
  const std::uint64_t count = std::uint64_t{grid.x} * grid.y * grid.z;
  std::vector<std::uint64_t> numbers;
  if (order().kind == ThreadOrder::kShuffled) {
    Rng rng(order().seed);
    for (std::uint64_t i = 0; i < count; ++i) numbers.push_back(i);
    for (std::size_t i = numbers.size(); i > 1; --i) std::swap(numbers[i - 1], numbers[rng.below(i)]);
  }
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t number = order().kind == ThreadOrder::kAscending    ? i
                                 : order().kind == ThreadOrder::kDescending ? count - 1 - i
                                                                            : numbers[i];
    runner.run({static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
                static_cast<unsigned>(number / grid.x / grid.y)},
               number);
  }
}

void sync_block(std::source_location location) { running_block->sync(location); }
void warp_collective(unsigned mask, const char* what, void* data, void (*combine)(void* const[32]),
                     std::source_location location) {
  running_block->join_collective(mask, what, data, combine, location);
}
void* shared_variable(const void* id, std::size_t bytes, std::size_t alignment) {
  return running_block->variable(id, bytes, alignment);
}
void cp_async(void* shared, const void* from, std::size_t bytes, std::source_location location) {
  running_block->cp_async({shared, from, bytes}, location);
}
void cp_async_commit() { running_block->cp_async_commit(); }
void cp_async_wait(std::size_t max_pending) { running_block->cp_async_wait(max_pending); }
int lane_in_warp() { return running_block->lane_in_warp(); }

void report_and_abort(const char* message, std::source_location location) {
  const uint3 b = coords.block, t = coords.thread;
  std::fprintf(stderr, "CUDA emulation: %s, block (%u,%u,%u), thread (%u,%u,%u): %s (%s:%u)\n",
               running_block == nullptr ? "outside a kernel" : running_block->kernel(), b.x, b.y, b.z, t.x, t.y, t.z,
               message, location.file_name(), location.line());
  std::abort();
}

}  // namespace slipway::cuda_emulation
