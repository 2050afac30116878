// What a model carries from token to token: keys and values of attention (recurrent states later).
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/operand.hpp"

namespace slipway {

/// Keys and values of one attention block for B sequences with room for `capacity` tokens each, in the compute type.
struct KvCache {
  ActivationBuffer k_SGK;  ///< [B * capacity, G * K], rotated
  ActivationBuffer v_SGK;
};

/// The state of all blocks for B sequences that have seen `length` tokens each. Copies are made by fork() alone.
class ModelState {
 public:
  ModelState(int layers, int sequences, int capacity, int kv_width, DType compute, MemorySpace& space = host_memory());

  int sequences() const { return sequences_; }
  int capacity() const { return capacity_; }
  int length() const { return length_; }
  void advance(int tokens) { length_ += tokens; }
  void rewind(int length) { length_ = length; }  ///< forgets what came after; 0 starts over
  KvCache& layer(int index) { return layers_[static_cast<std::size_t>(index)]; }
  ModelState fork() const;  ///< an independent copy: two continuations of one prompt

 private:
  std::vector<KvCache> layers_;
  int sequences_, capacity_, kv_width_, length_ = 0;
  DType compute_;
  MemorySpace* space_;
};

}  // namespace slipway
