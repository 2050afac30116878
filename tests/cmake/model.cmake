# The model and the trainer: gradients against f64 references, and equality of layouts.
slipway_test(model LABEL parity SOURCES parity/model.cpp LIBRARIES slipway_model)
target_compile_definitions(test_model PRIVATE SLIPWAY_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data")
slipway_python_test(ranks_e2e LABEL e2e SCRIPT tests/e2e/ranks.py ARGS $<TARGET_FILE:slipway>)
set_tests_properties(ranks_e2e PROPERTIES PROCESSORS 2)
slipway_python_test(life LABEL e2e SCRIPT tests/e2e/life.py ARGS $<TARGET_FILE:slipway>)
set_tests_properties(life PROPERTIES PROCESSORS 2)
slipway_python_test(faults LABEL e2e SCRIPT tests/e2e/faults.py ARGS $<TARGET_FILE:slipway>)
