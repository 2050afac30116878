# kernels/cuda on host lanes: its sources as plain C++, on tests/support/cuda_on_host, for tests on machines without a GPU.
# Needs the headers of the CUDA toolkit and Boost.Context, and nothing else of CUDA.
find_path(SLIPWAY_CUDA_INCLUDE cuda_runtime.h HINTS ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES include)
find_package(Boost 1.74 QUIET OPTIONAL_COMPONENTS context)
set(SLIPWAY_CUDA_ON_HOST OFF)
if(SLIPWAY_TESTS AND SLIPWAY_CUDA_INCLUDE AND TARGET Boost::context)
  set(SLIPWAY_CUDA_ON_HOST ON)
endif()

# slipway_on_host_lanes(<target>): its .cu files, and its .cpp files with kernels, are compiled for host lanes.
function(slipway_on_host_lanes target)
  get_target_property(sources ${target} SOURCES)
  set(kernel_sources ${sources})
  list(FILTER kernel_sources INCLUDE REGEX "\\.cu$")
  set_source_files_properties(${kernel_sources} PROPERTIES LANGUAGE CXX)
  target_include_directories(${target} SYSTEM PRIVATE ${SLIPWAY_CUDA_INCLUDE})
  target_compile_options(${target} PRIVATE -include ${CMAKE_SOURCE_DIR}/tests/support/cuda_on_host.hpp -fopenmp-simd -Wno-unknown-pragmas)
endfunction()
