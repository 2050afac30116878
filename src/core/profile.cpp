#include "src/core/profile.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>

#include "src/core/clock.hpp"

namespace slipway::profile {
namespace {

std::atomic<bool> enabled = false;
std::mutex mutex;
std::vector<Span> spans;  // of all threads: spans are few (thousands a step), so one lock suffices
std::atomic<int> num_threads = 0;
thread_local Scope* current = nullptr;
Listener current_listener;

int this_thread() {
  static thread_local const int number = num_threads++;
  return number;
}

}  // namespace

void start() {
  const std::lock_guard lock(mutex);
  spans.clear();
  enabled = true;
}

std::vector<Span> stop() {
  const std::lock_guard lock(mutex);
  enabled = false;
  return std::exchange(spans, {});
}

void set_listener(Listener listener) { current_listener = listener; }

bool is_enabled() { return enabled.load(std::memory_order_relaxed); }

Scope::Scope(const char* name, Cost cost, int number) : is_recorded_(is_enabled()) {
  if (current_listener.on_begin != nullptr) current_listener.on_begin(name, number);
  if (!is_recorded_) return;
  parent_ = std::exchange(current, this);
  span_ = {.name = name, .number = number, .thread = this_thread(), .cost = cost};
  span_.begin_s = now_s();
}

Scope::~Scope() {
  if (current_listener.on_end != nullptr) current_listener.on_end();
  if (!is_recorded_) return;
  span_.end_s = std::max(span_.begin_s, now_s() - excluded_s_);
  current = parent_;
  if (parent_ != nullptr) parent_->span_.inner_s += span_.end_s - span_.begin_s;
  const std::lock_guard lock(mutex);
  if (enabled) spans.push_back(span_);
}

}  // namespace slipway::profile
