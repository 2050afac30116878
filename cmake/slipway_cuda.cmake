# kernels/cuda, in two forms: for GPUs, as a shared library that the program loads when a GPU is requested; and as plain
# C++ on the CUDA emulation (kernels/cuda_emulation), for machines without a GPU.
set(SLIPWAY_CUDA "AUTO" CACHE STRING "The CUDA backend. AUTO: where nvcc and cublasLt are found; ON: required; OFF: none; HOST: on the CUDA emulation, for tests")
set_property(CACHE SLIPWAY_CUDA PROPERTY STRINGS AUTO ON OFF HOST)
if(NOT SLIPWAY_CUDA MATCHES "^(AUTO|ON|OFF|HOST)$")
  message(FATAL_ERROR "SLIPWAY_CUDA is ${SLIPWAY_CUDA}, but AUTO, ON, OFF or HOST is expected")
endif()

# For GPUs: nvcc, cublasLt and, for several of them, NCCL.
set(SLIPWAY_CUDA_BACKEND OFF)
if(SLIPWAY_CUDA STREQUAL "ON" OR (SLIPWAY_CUDA STREQUAL "AUTO" AND NOT SLIPWAY_SANITIZE))
  include(CheckLanguage)
  if(NOT CMAKE_CUDA_COMPILER AND EXISTS /usr/local/cuda/bin/nvcc)
    set(CMAKE_CUDA_COMPILER /usr/local/cuda/bin/nvcc)  # NVIDIA's default path, which may not be on PATH
  endif()
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    find_package(CUDAToolkit QUIET)
  endif()
  if(TARGET CUDA::cublasLt AND TARGET CUDA::cudart_static)
    set(SLIPWAY_CUDA_BACKEND ON)
  elseif(SLIPWAY_CUDA STREQUAL "ON")
    message(FATAL_ERROR "SLIPWAY_CUDA=ON needs nvcc and cublasLt of the CUDA toolkit (12.0 or later); set CUDACXX or PATH")
  endif()
endif()
if(NOT SLIPWAY_CUDA_BACKEND)
  file(REMOVE ${CMAKE_BINARY_DIR}/libslipway_cuda.so)  # of an earlier configuration: the program would load it
endif()
if(SLIPWAY_CUDA_BACKEND)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(architectures "80-real;90a-real;100-real;100-virtual")
    if(CUDAToolkit_VERSION VERSION_LESS 12.8)  # without Blackwell support
      set(architectures "80-real;90a-real;90-virtual")
    endif()
    set(CMAKE_CUDA_ARCHITECTURES "${architectures}" CACHE STRING "GPUs that kernels are compiled for")
  endif()
  if(CCACHE)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
  endif()
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc has it
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
endif()

# The CUDA emulation needs Boost.Context and, of CUDA, only the headers of the toolkit and of NCCL.
find_path(SLIPWAY_NCCL_INCLUDE nccl.h HINTS ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES include)
find_path(SLIPWAY_CUDA_INCLUDE cuda_runtime.h HINTS ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES include)
find_package(Boost 1.74 QUIET OPTIONAL_COMPONENTS context)
set(SLIPWAY_CUDA_EMULATION OFF)
if((SLIPWAY_TESTS OR SLIPWAY_CUDA STREQUAL "HOST") AND SLIPWAY_CUDA_INCLUDE AND SLIPWAY_NCCL_INCLUDE AND TARGET Boost::context)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")  # it needs std::source_location and __builtin_clear_padding
    set(SLIPWAY_CUDA_EMULATION ON)
  else()
    message(STATUS "CUDA emulation: not built; it needs GCC, and the compiler is ${CMAKE_CXX_COMPILER_ID}")
  endif()
endif()
if(SLIPWAY_CUDA STREQUAL "HOST" AND NOT SLIPWAY_CUDA_EMULATION)
  message(FATAL_ERROR "SLIPWAY_CUDA=HOST needs GCC, the headers of the CUDA toolkit and of NCCL, and Boost.Context (launch/install-deps.sh --tests)")
endif()

# The texts of `slipway --version` for CUDA and NCCL; a reason is empty where the part is built in.
set(SLIPWAY_BUILT_CUDA "")
set(SLIPWAY_MISSING_CUDA_REASON "")
set(SLIPWAY_BUILT_NCCL "libnccl.so.2, opened when several GPUs run")
set(SLIPWAY_MISSING_NCCL_REASON "")
if(SLIPWAY_CUDA_BACKEND)
  string(REPLACE ";" " " architectures "${CMAKE_CUDA_ARCHITECTURES}")
  set(SLIPWAY_BUILT_CUDA "CUDA ${CUDAToolkit_VERSION} for architectures ${architectures}")
elseif(SLIPWAY_CUDA STREQUAL "HOST")
  set(SLIPWAY_BUILT_CUDA "on the CUDA emulation, for tests")
elseif(SLIPWAY_CUDA STREQUAL "OFF")
  set(SLIPWAY_MISSING_CUDA_REASON "SLIPWAY_CUDA is OFF")
elseif(SLIPWAY_SANITIZE)
  set(SLIPWAY_MISSING_CUDA_REASON "SLIPWAY_CUDA is AUTO in a build with sanitizers")
elseif(NOT CMAKE_CUDA_COMPILER)
  set(SLIPWAY_MISSING_CUDA_REASON "SLIPWAY_CUDA is AUTO and no nvcc was found")
else()
  set(SLIPWAY_MISSING_CUDA_REASON "SLIPWAY_CUDA is AUTO and no cublasLt was found")
endif()
if(SLIPWAY_MISSING_CUDA_REASON)
  message(STATUS "CUDA backend: not built; ${SLIPWAY_MISSING_CUDA_REASON}")
else()
  message(STATUS "CUDA backend: ${SLIPWAY_BUILT_CUDA}")
endif()
if(SLIPWAY_MISSING_CUDA_REASON)
  set(SLIPWAY_MISSING_NCCL_REASON "no CUDA")
elseif(NOT SLIPWAY_NCCL_INCLUDE)
  set(SLIPWAY_MISSING_NCCL_REASON "nccl.h was not found")
endif()

# The options of every CUDA source; tests/cuda/resources.py has the same.
set(SLIPWAY_NVCC_OPTIONS --expt-relaxed-constexpr
    -fmad=false  # the same rounding wherever a formula is inlined, as with GCC; an FMA is explicit (body::fmadd)
    -diag-suppress=554  # a false warning that the conversion from Matrix<T> to Matrix<const T> is never used
    -Werror=all-warnings -Xcompiler=-Wall,-Wextra,-Wno-unknown-pragmas)

# slipway_compile_for_cuda_emulation(<target>): compiles its .cu files, and its .cpp files with kernels, for the CUDA
# emulation.
function(slipway_compile_for_cuda_emulation target)
  get_target_property(sources ${target} SOURCES)
  set(kernel_sources ${sources})
  list(FILTER kernel_sources INCLUDE REGEX "\\.cu$")
  set_source_files_properties(${kernel_sources} PROPERTIES LANGUAGE CXX)
  target_include_directories(${target} SYSTEM PRIVATE ${SLIPWAY_CUDA_INCLUDE} ${SLIPWAY_NCCL_INCLUDE})
  target_compile_options(${target} PRIVATE -include ${CMAKE_SOURCE_DIR}/kernels/cuda_emulation/cuda_emulation.hpp -Wno-unknown-pragmas)
endfunction()

# slipway_link_cuda_emulation(<program>): links the CUDA backend on the emulation, so that `--device cuda` runs on it.
function(slipway_link_cuda_emulation program)
  target_link_libraries(${program} PRIVATE $<LINK_LIBRARY:WHOLE_ARCHIVE,slipway_kernels_cuda_emulated>)
endfunction()
