# The core, and the checks of the source itself.
slipway_test(core LABEL unit LIBRARIES slipway_core
  SOURCES unit/core_basics.cpp unit/core_config.cpp unit/core_file.cpp unit/core_help.cpp unit/core_first_fit_allocator.cpp)
slipway_test(workers LABEL unit EXTRA_LABELS threads SOURCES unit/workers.cpp LIBRARIES slipway_core)
slipway_test(core_laws LABEL property LIBRARIES slipway_core
  SOURCES property/core_dtype.cpp property/core_random.cpp)

# Python alone, without the oracles: these run wherever the source does.
set(headers_compiler ${CMAKE_CXX_COMPILER_LAUNCHER} ${CMAKE_CXX_COMPILER} -march=${SLIPWAY_ARCH} -I${CMAKE_BINARY_DIR}/generated)
foreach(folder ${MPI_CXX_INCLUDE_DIRS} ${HDF5_C_INCLUDE_DIRS})  # for headers that stay inside their folder
  list(APPEND headers_compiler -isystem ${folder})
endforeach()
add_test(NAME layers COMMAND ${SLIPWAY_PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/layers/check.py ${CMAKE_SOURCE_DIR})
add_test(NAME layers.headers_compile_alone COMMAND ${SLIPWAY_PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/layers/check.py ${CMAKE_SOURCE_DIR}
  --compile ${CMAKE_BINARY_DIR}/headers ${headers_compiler})
add_test(NAME layers.checks_can_fail COMMAND ${SLIPWAY_PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/layers/check_can_fail.py)
set_tests_properties(layers layers.headers_compile_alone layers.checks_can_fail PROPERTIES LABELS layers TIMEOUT 900)
set_tests_properties(layers.headers_compile_alone PROPERTIES PROCESSORS 2)

# What the last ten commits changed; the nightly reads everything.
add_test(NAME lint COMMAND ${SLIPWAY_PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/lint/lint.py --since 10 --seconds 60)
add_test(NAME lint_all COMMAND ${SLIPWAY_PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/lint/lint.py --all)
set_tests_properties(lint PROPERTIES LABELS lint TIMEOUT 900)
set_tests_properties(lint_all PROPERTIES LABELS "lint;nightly" TIMEOUT 7200)
set_tests_properties(lint lint_all PROPERTIES PROCESSORS 2 SKIP_RETURN_CODE 77)

add_test(NAME docs COMMAND ${SLIPWAY_PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/docs/pages.py $<TARGET_FILE:slipway>)
set_tests_properties(docs PROPERTIES LABELS docs TIMEOUT 300 PROCESSORS 2 ENVIRONMENT "${SLIPWAY_MPI_ENVIRONMENT}")
slipway_python_test(examples LABEL docs SCRIPT tests/docs/examples.py ARGS $<TARGET_FILE:slipway>)

# tests_<label> builds the programs of one label's tests: the sanitizer builds of launch/test.sh need no others.
function(slipway_targets_of_labels)
  get_property(tests DIRECTORY PROPERTY TESTS)
  foreach(test ${tests})
    get_test_property(${test} LABELS labels)
    string(REGEX REPLACE "\\.[0-9]+_ranks$" "" program test_${test})
    if(NOT TARGET ${program})
      continue()
    endif()
    foreach(label ${labels})
      if(NOT TARGET tests_${label})
        add_custom_target(tests_${label})
      endif()
      add_dependencies(tests_${label} ${program})
    endforeach()
  endforeach()
endfunction()
cmake_language(DEFER CALL slipway_targets_of_labels)  # when every area has been read
