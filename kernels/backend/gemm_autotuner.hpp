// GEMM algorithm selection: times the library's algorithms, saves the selection, and loads a saved one.
#pragma once

#include <string>

#include "kernels/matmul.hpp"

namespace slipway {

/// What a backend offers whose library of products has several algorithms for a shape.
struct GemmAutotuner {
  /// Times the algorithms for the shape of `op`, whose memory is there and may be written to, and keeps the fastest.
  void (*tune)(const MatMul& op) = nullptr;
  /// A line for every shape that was met or adopted: its sizes, the choice as load() takes it, and in words.
  std::string (*serialize)() = nullptr;
  /// Takes the choices of `serialize`, of this version of the library, for shapes that were not met yet.
  /// Errors   Fault::kDevice for lines of another version.
  void (*load)(const std::string& lines) = nullptr;
};

}  // namespace slipway
