# slipway_library(<name> [PUBLIC targets...] [PRIVATE targets...]): the library of one folder, from its .cpp files.
# PUBLIC are the targets that its headers include, PRIVATE those that only its sources include, so that no public header
# uses a type of MPI, HDF5, oneDNN or CUDA.
function(slipway_library name)
  cmake_parse_arguments(ARG "" "" "PUBLIC;PRIVATE;SOURCES" ${ARGN})
  if(NOT ARG_SOURCES)
    file(GLOB ARG_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  endif()
  if(NOT ARG_SOURCES)
    file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/empty.cpp "")
    set(ARG_SOURCES ${CMAKE_CURRENT_BINARY_DIR}/empty.cpp)
  endif()
  add_library(slipway_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(slipway_${name} PUBLIC slipway_options ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
  if(SLIPWAY_OPENMP)
    target_link_libraries(slipway_${name} PRIVATE OpenMP::OpenMP_CXX)
  else()
    target_compile_options(slipway_${name} PRIVATE -Wno-unknown-pragmas)
  endif()
  if(SLIPWAY_UNITY AND NOT name STREQUAL "kernels")
    set_target_properties(slipway_${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 14)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      target_compile_options(slipway_${name} PRIVATE
        -Wno-subobject-linkage  # GCC takes the included sources for headers
        -Wno-array-bounds)      # false positives of GCC 12 in std::string (bug 105651)
    endif()
  endif()
  if(NOT name STREQUAL "kernels")  # kernels do not use JSON
    target_precompile_headers(slipway_${name} REUSE_FROM slipway_precompiled)
  endif()
endfunction()

# Parsing the JSON library costs more than most sources that use it, so it is compiled once for all folders.
file(WRITE ${CMAKE_BINARY_DIR}/generated/precompiled.cpp "")
add_library(slipway_precompiled OBJECT ${CMAKE_BINARY_DIR}/generated/precompiled.cpp)
target_link_libraries(slipway_precompiled PRIVATE slipway_options nlohmann_json::nlohmann_json)
if(SLIPWAY_OPENMP)
  target_link_libraries(slipway_precompiled PRIVATE OpenMP::OpenMP_CXX)
else()
  target_compile_options(slipway_precompiled PRIVATE -Wno-unknown-pragmas)
endif()
target_precompile_headers(slipway_precompiled PRIVATE <filesystem> <functional> <nlohmann/json.hpp> <span> <sstream> <string> <vector>)
