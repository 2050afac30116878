# Finds every external library. launch/install-deps.sh installs them all.
find_package(Threads REQUIRED)
find_package(MPI REQUIRED COMPONENTS CXX)
set(HDF5_PREFER_PARALLEL ON)  # otherwise the serial build is found when both are installed
find_package(HDF5 REQUIRED COMPONENTS C)
find_package(Boost 1.74 REQUIRED COMPONENTS program_options)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(ZLIB REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)  # these three ship no CMake package
pkg_check_modules(zstd REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(icu REQUIRED IMPORTED_TARGET icu-uc)
if(SLIPWAY_ONEDNN)
  # Debian's CMake package of dnnl requires OpenCL, which only its GPU interface needs; library and headers are enough.
  find_library(SLIPWAY_DNNL_LIBRARY dnnl REQUIRED)
  find_path(SLIPWAY_DNNL_INCLUDE oneapi/dnnl/dnnl.hpp REQUIRED)
  add_library(DNNL::dnnl SHARED IMPORTED)
  set_target_properties(DNNL::dnnl PROPERTIES IMPORTED_LOCATION ${SLIPWAY_DNNL_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${SLIPWAY_DNNL_INCLUDE})
endif()
if(SLIPWAY_OPENMP)
  find_package(OpenMP REQUIRED COMPONENTS CXX)
endif()
if(SLIPWAY_TESTS)
  find_package(GTest REQUIRED)
endif()
