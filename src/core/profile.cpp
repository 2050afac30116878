#include "src/core/profile.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>

#include "src/core/clock.hpp"

namespace slipway::profile {
namespace {

std::atomic<bool> is_on = false;
std::mutex mutex;
std::vector<Span> kept;  // of all threads: spans are few (thousands a step), so one lock suffices
std::atomic<int> threads_seen = 0;
thread_local Scope* current = nullptr;
Listener listening;

int this_thread() {
  static thread_local const int number = threads_seen++;
  return number;
}

}  // namespace

void start() {
  const std::lock_guard lock(mutex);
  kept.clear();
  is_on = true;
}

std::vector<Span> stop() {
  const std::lock_guard lock(mutex);
  is_on = false;
  return std::exchange(kept, {});
}

void set_listener(Listener listener) { listening = listener; }

bool on() { return is_on.load(std::memory_order_relaxed); }

Scope::Scope(const char* name, Cost cost, int number) : kept_(on()) {
  if (listening.begins != nullptr) listening.begins(name, number);
  if (!kept_) return;
  outer_ = std::exchange(current, this);
  span_ = {.name = name, .number = number, .thread = this_thread(), .cost = cost};
  span_.begin_s = now_s();
}

Scope::~Scope() {
  if (listening.ends != nullptr) listening.ends();
  if (!kept_) return;
  span_.end_s = std::max(span_.begin_s, now_s() - excluded_s_);
  current = outer_;
  if (outer_ != nullptr) outer_->span_.inner_s += span_.end_s - span_.begin_s;
  const std::lock_guard lock(mutex);
  if (is_on) kept.push_back(span_);
}

}  // namespace slipway::profile
