# The model and the trainer: gradients against f64 references, equality of layouts, and runs through the command line.
slipway_test(model LABEL parity SOURCES parity/model.cpp LIBRARIES slipway_model)
target_compile_definitions(test_model PRIVATE SLIPWAY_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data")
slipway_test(train LABEL unit SOURCES unit/train.cpp LIBRARIES slipway_train)
slipway_test(train_threads LABEL ranks EXTRA_LABELS threads SOURCES ranks/train_threads.cpp LIBRARIES slipway_train)

slipway_python_test(ranks_e2e LABEL e2e SCRIPT tests/e2e/ranks.py ARGS $<TARGET_FILE:slipway>)
foreach(script life faults runs interface profile)
  slipway_python_test(${script} LABEL e2e SCRIPT tests/e2e/${script}.py ARGS $<TARGET_FILE:slipway>)
endforeach()
slipway_python_test(kill_storm LABEL e2e SCRIPT tests/e2e/kill_storm.py ARGS $<TARGET_FILE:slipway> 15 1)
slipway_python_test(kill_storm_long LABEL nightly SCRIPT tests/e2e/kill_storm.py ARGS $<TARGET_FILE:slipway> 300 7 TIMEOUT 3600)
set_tests_properties(ranks_e2e kill_storm kill_storm_long life PROPERTIES PROCESSORS 2)
slipway_nightly_test(transformers_logits SCRIPT tests/foreign/transformers_logits.py ARGS $<TARGET_FILE:slipway>)
