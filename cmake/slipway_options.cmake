# The compile options of our own code: one target, slipway_options, that every folder's library links.
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
  # ccache caches sources with a precompiled header only with this sloppiness.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE})
endif()

add_library(slipway_options INTERFACE)
target_include_directories(slipway_options INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/generated)
target_compile_options(slipway_options INTERFACE
  $<IF:$<BOOL:$<TARGET_PROPERTY:SLIPWAY_MARCH>>,$<TARGET_PROPERTY:SLIPWAY_MARCH>,-march=${SLIPWAY_ARCH}> -Wall -Wextra -Wshadow
  -Wno-missing-field-initializers  # designated initializers name what differs from the defaults
  -ffp-contract=off  # the same rounding with every compiler; an FMA is explicit (body::fmadd)
  -fno-math-errno -fno-trapping-math
  -fopenmp-simd)  # `#pragma omp simd` also without OpenMP threads; for all targets, as they share precompiled headers
if(SLIPWAY_WERROR)
  target_compile_options(slipway_options INTERFACE -Werror)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(slipway_options INTERFACE
    -Wno-restrict -Wno-stringop-overflow  # false positives of GCC 12 in std::string (bug 105651)
    -fpch-preprocess                  # ccache needs it for precompiled headers
    --param=ggc-min-heapsize=400000)  # KiB of heap before GCC collects garbage, which takes 6 % of its time otherwise
else()
  target_compile_options(slipway_options INTERFACE
    -Wno-missing-braces                  # as GCC does by default
    -Wno-return-type-c-linkage           # extern "C" is used only for an unmangled symbol for dlsym
    -Wno-pass-failed                     # `#pragma omp simd` is optional; Clang warns of each loop it cannot vectorize
    "SHELL:-Xclang -fno-pch-timestamp")  # ccache needs it for precompiled headers
endif()
if(SLIPWAY_SANITIZE)
  target_compile_options(slipway_options INTERFACE -fsanitize=${SLIPWAY_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)  # false positives of GCC 12 in the instrumented standard library
  target_link_options(slipway_options INTERFACE -fsanitize=${SLIPWAY_SANITIZE})
endif()
target_compile_definitions(slipway_options INTERFACE SLIPWAY_VERSION="${PROJECT_VERSION}" SLIPWAY_ARCH="${SLIPWAY_ARCH}")
