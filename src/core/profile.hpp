// Profiling: spans of named work, with their operations and bytes.
#pragma once

#include <cstdint>
#include <vector>

namespace slipway::profile {

/// Operations and bytes of a piece of work, counted.
struct Cost {
  double flops = 0;
  double bytes = 0;  ///< read and written, each operand once
};

/// One piece of work on one thread. Spans of a thread nest and never overlap otherwise.
struct Span {
  const char* name = "";
  int number = -1;  ///< index among several, such as the layer; -1: there is only one
  int thread = 0;   ///< counted from 0 in the order in which threads were first seen
  double begin_s = 0, end_s = 0;
  double inner_s = 0;  ///< time in nested spans: end - begin - inner_s is the span's self time
  Cost cost;
};

/// Starts recording spans. Not thread-safe.
void start();
/// Stops recording and returns the spans, in the order in which they ended.
std::vector<Span> stop();
bool is_enabled();

/// Sets a listener for every span, recorded or not: a GPU profiler. Call before other threads start.
struct Listener {
  void (*on_begin)(const char* name, int number) = nullptr;
  void (*on_end)() = nullptr;
};
void set_listener(Listener listener);

/// A span from construction to destruction. `name` must have static lifetime.
/// Cost     two loads when profiling is off and there is no listener.
class Scope {
 public:
  explicit Scope(const char* name, Cost cost = {}, int number = -1);
  ~Scope();
  /// Attributes the last seconds to the enclosing span instead of this one.
  void exclude(double seconds) { excluded_s_ = seconds; }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Span span_;
  Scope* parent_ = nullptr;
  double excluded_s_ = 0;
  bool is_recorded_ = false;
};

}  // namespace slipway::profile
