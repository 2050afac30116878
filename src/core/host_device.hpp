// Marks functions that also run on a GPU.
#pragma once

#if defined(__CUDACC__)
#define SLIPWAY_HD __host__ __device__
#else
#define SLIPWAY_HD
#endif
