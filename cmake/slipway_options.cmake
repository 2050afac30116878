# How our own code is compiled: one target, slipway_options, that every folder's library links.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  # Sources that use a precompiled header are cached only when ccache may overlook what is unsafe to overlook elsewhere.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE})
endif()

add_library(slipway_options INTERFACE)
target_include_directories(slipway_options INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/generated)
target_compile_options(slipway_options INTERFACE
  $<IF:$<BOOL:$<TARGET_PROPERTY:SLIPWAY_MARCH>>,$<TARGET_PROPERTY:SLIPWAY_MARCH>,-march=${SLIPWAY_ARCH}> -Wall -Wextra -Wshadow
  -Wno-missing-field-initializers  # designated initializers name what differs from the defaults
  -ffp-contract=off  # a formula rounds alike with every compiler; what shall be one operation says so (body::multiply_add)
  -fno-math-errno -fno-trapping-math
  -fopenmp-simd)  # `#pragma omp simd` counts also where OpenMP's threads are off; everywhere, as precompiled headers want it
if(SLIPWAY_WERROR)
  target_compile_options(slipway_options INTERFACE -Werror)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(slipway_options INTERFACE
    -Wno-restrict -Wno-stringop-overflow  # GCC 12 imagines both inside std::string (bug 105651)
    -fpch-preprocess                  # what ccache needs of a precompiled header
    --param=ggc-min-heapsize=400000)  # KiB before the compiler collects garbage; it spends 6 % on it
else()
  target_compile_options(slipway_options INTERFACE
    -Wno-missing-braces                  # as GCC has it
    -Wno-return-type-c-linkage           # extern "C" only gives dlsym a plain name
    -Wno-pass-failed                     # `#pragma omp simd` is a wish; Clang warns of each it cannot grant
    "SHELL:-Xclang -fno-pch-timestamp")  # what ccache needs of a precompiled header
endif()
if(SLIPWAY_SANITIZE)
  target_compile_options(slipway_options INTERFACE -fsanitize=${SLIPWAY_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)  # GCC 12 warns falsely inside the standard library when it instruments it
  target_link_options(slipway_options INTERFACE -fsanitize=${SLIPWAY_SANITIZE})
endif()
target_compile_definitions(slipway_options INTERFACE SLIPWAY_VERSION="${PROJECT_VERSION}" SLIPWAY_ARCH="${SLIPWAY_ARCH}")
