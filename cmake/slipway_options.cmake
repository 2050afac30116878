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
  $<IF:$<BOOL:$<TARGET_PROPERTY:SLIPWAY_MARCH>>,$<TARGET_PROPERTY:SLIPWAY_MARCH>,-march=${SLIPWAY_ARCH}> -Wall -Wextra -Wshadow -Werror
  -Wno-restrict -Wno-stringop-overflow  # GCC 12 imagines both inside std::string (bug 105651)
  -fpch-preprocess
  $<$<CXX_COMPILER_ID:GNU>:--param=ggc-min-heapsize=400000>  # KiB before the compiler collects garbage; it spends 6 % on it
  -Wno-missing-field-initializers  # designated initializers name what differs from the defaults
  -ffp-contract=on -fno-math-errno -fno-trapping-math)
if(SLIPWAY_SANITIZE)
  target_compile_options(slipway_options INTERFACE -fsanitize=${SLIPWAY_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all
    -Wno-maybe-uninitialized)  # GCC 12 warns falsely inside the standard library when it instruments it
  target_link_options(slipway_options INTERFACE -fsanitize=${SLIPWAY_SANITIZE})
endif()
target_compile_definitions(slipway_options INTERFACE SLIPWAY_VERSION="${PROJECT_VERSION}" SLIPWAY_ARCH="${SLIPWAY_ARCH}")
