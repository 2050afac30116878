# Every op of every backend.
slipway_test(kernels LABEL unit LIBRARIES slipway_kernels SOURCES unit/kernels_exp.cpp unit/kernels_machine.cpp)
slipway_test(kernels_parity LABEL parity LIBRARIES slipway_kernels
  SOURCES support/kernels_backends_cpu.cpp parity/kernels_attention.cpp parity/kernels_bf16.cpp parity/kernels_matmul.cpp
          parity/kernels_quantized.cpp parity/kernels_rows.cpp parity/kernels_sample.cpp parity/kernels_update.cpp)
slipway_test(kernels_laws LABEL property LIBRARIES slipway_kernels
  SOURCES support/kernels_backends_cpu.cpp property/kernels_gradients.cpp property/kernels_order.cpp)
