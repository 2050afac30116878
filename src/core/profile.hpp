// Where the time goes: spans of named work, with the operations and bytes they counted.
#pragma once

#include <cstdint>
#include <vector>

namespace slipway::profile {

/// What a piece of work does, counted and not guessed.
struct Cost {
  double flops = 0;
  double bytes = 0;  ///< read and written, each operand once
};

/// One piece of work on one thread. Spans of a thread nest and never overlap otherwise.
struct Span {
  const char* name = "";
  int number = -1;  ///< which of several, such as the layer; -1: there is one
  int thread = 0;   ///< counted from 0 in the order in which threads were first seen
  double begin_s = 0, end_s = 0;
  double inner_s = 0;  ///< of that, in spans inside it: end - begin - inner is its own
  Cost cost;
};

/// From now on spans are kept. Not for several threads at once.
void start();
/// Ends that, and hands out what was kept, in the order in which spans ended.
std::vector<Span> stop();
bool on();

/// Who else is told of every span, whether they are kept or not: a tool that watches a GPU. Before other threads begin.
struct Listener {
  void (*begins)(const char* name, int number) = nullptr;
  void (*ends)() = nullptr;
};
void set_listener(Listener listener);

/// A span from its construction to its end. `name` must live for ever.
/// Cost     two loads when profiling is off and nobody listens.
class Scope {
 public:
  explicit Scope(const char* name, Cost cost = {}, int number = -1);
  ~Scope();
  /// These last seconds belong to the enclosing span, not to this one.
  void exclude(double seconds) { excluded_s_ = seconds; }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Span span_;
  Scope* outer_ = nullptr;
  double excluded_s_ = 0;
  bool kept_ = false;
};

}  // namespace slipway::profile
