// Captures the ops of the main stream in CUDA graphs.
#pragma once

#include "kernels/backend/graph_capture.hpp"

namespace slipway::cuda {

const GraphCapture* graph_capture();

}  // namespace slipway::cuda
