// The main queue's ops as CUDA graphs.
#pragma once

#include "kernels/recorder.hpp"

namespace slipway::cuda {

const Recorder* recorder();

}  // namespace slipway::cuda
