// The main queue's ops as CUDA graphs.
#pragma once

#include "kernels/graph_capture.hpp"

namespace slipway::cuda {

const GraphCapture* recorder();

}  // namespace slipway::cuda
