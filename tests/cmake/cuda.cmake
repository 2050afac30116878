# kernels/cuda without a GPU: compiled for real, the CUDA emulation, and every kernel on them.
find_program(SLIPWAY_NVCC nvcc HINTS ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
if(SLIPWAY_NVCC)
  add_test(NAME cuda_build COMMAND ${SLIPWAY_PYTHON3} ${CMAKE_SOURCE_DIR}/tests/cuda/resources.py ${SLIPWAY_NVCC} ${CMAKE_BINARY_DIR}/cuda)
else()
  add_test(NAME cuda_build COMMAND sh -c "echo 'no nvcc: kernels/cuda is not compiled for GPUs'; exit 77")
endif()
set_tests_properties(cuda_build PROPERTIES LABELS cuda TIMEOUT 900 PROCESSORS 2 SKIP_RETURN_CODE 77)

if(SLIPWAY_CUDA_BACKEND)  # where a GPU is; tests/device/run.sh runs them too
  set(on_device device/main.cpp device/kernels_backends_device.cpp parity/kernels_attention.cpp parity/kernels_bf16.cpp parity/kernels_matmul.cpp
      parity/kernels_quantized.cpp parity/kernels_rows.cpp parity/kernels_sample.cpp parity/kernels_update.cpp property/kernels_gradients.cpp)
  list(TRANSFORM on_device PREPEND ${CMAKE_SOURCE_DIR}/tests/)
  add_executable(test_device_kernels ${on_device})
  target_link_libraries(test_device_kernels PRIVATE slipway_kernels CUDA::cudart GTest::gtest)
  add_dependencies(test_device_kernels slipway_cuda)
  add_test(NAME device_kernels COMMAND test_device_kernels --gtest_brief=1)
  set_tests_properties(device_kernels PROPERTIES LABELS cuda SKIP_RETURN_CODE 6)  # no GPU
endif()

if(NOT SLIPWAY_CUDA_EMULATION)
  add_test(NAME cuda_host COMMAND sh -c "echo 'no GCC, headers of the CUDA toolkit or of NCCL, or Boost.Context: kernels/cuda is not tested'; exit 77")
  set_tests_properties(cuda_host PROPERTIES LABELS cuda_host SKIP_RETURN_CODE 77)
  return()
endif()

slipway_test(cuda_emulation LABEL cuda_host LIBRARIES slipway_kernels_cuda_emulated SOURCES unit/cuda_emulation.cpp unit/cuda_graphs.cpp)
slipway_compile_for_cuda_emulation(test_cuda_emulation)

slipway_test(cuda_kernels LABEL cuda_host LIBRARIES slipway_kernels_cuda_emulated
  SOURCES support/kernels_backends_cuda.cpp parity/kernels_attention.cpp parity/kernels_bf16.cpp
          parity/kernels_matmul.cpp parity/kernels_quantized.cpp parity/kernels_rows.cpp
          parity/kernels_sample.cpp parity/kernels_update.cpp property/kernels_gradients.cpp)
slipway_compile_for_cuda_emulation(test_cuda_kernels)
set_tests_properties(cuda_kernels PROPERTIES TIMEOUT 900)  # under the sanitizers, beside others

slipway_test(cuda_groups LABEL cuda_host MPI 1 2 3 4 LIBRARIES slipway_comm SOURCES ranks/cuda_groups.cpp support/ranks_main.cpp)
slipway_link_cuda_emulation(test_cuda_groups)

# The whole program on the CUDA emulation.
add_executable(slipway_on_cuda_emulation ${CMAKE_SOURCE_DIR}/launch/main.cpp)
target_link_libraries(slipway_on_cuda_emulation PRIVATE slipway_launch)
slipway_link_cuda_emulation(slipway_on_cuda_emulation)
slipway_python_test(cuda_host LABEL cuda_host SCRIPT tests/e2e/cuda_host.py ARGS $<TARGET_FILE:slipway_on_cuda_emulation> $<TARGET_FILE:slipway>)
set_tests_properties(cuda_host PROPERTIES PROCESSORS 2 TIMEOUT 1200 LABELS "cuda_host;e2e")  # the sanitizers leave e2e out
