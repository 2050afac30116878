# The model and the trainer: gradients against f64 references, equality of layouts, and runs through the command line.
slipway_test(model LABEL parity SOURCES parity/model.cpp LIBRARIES slipway_model)
target_compile_definitions(test_model PRIVATE SLIPWAY_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data")
slipway_test(linear LABEL parity SOURCES parity/linear.cpp LIBRARIES slipway_model)
slipway_test(loss_weights LABEL parity SOURCES parity/loss_weights.cpp LIBRARIES slipway_model)
slipway_test(model_config LABEL unit SOURCES unit/model_config.cpp LIBRARIES slipway_model)
slipway_test(train LABEL unit LIBRARIES slipway_train
  SOURCES unit/train.cpp unit/run_report.cpp unit/host_memory.cpp)
slipway_test(dry_run LABEL unit SOURCES unit/dry_run.cpp unit/memory_plan.cpp LIBRARIES slipway_train)
slipway_test(muon_parity LABEL parity SOURCES parity/muon.cpp LIBRARIES slipway_train)
slipway_test(matrix_redistribution LABEL ranks EXTRA_LABELS threads SOURCES ranks/matrix_redistribution.cpp LIBRARIES slipway_train)
slipway_test(step_structure LABEL bench-smoke SOURCES bench/step_structure.cpp LIBRARIES slipway_train)
slipway_test(train_threads LABEL ranks EXTRA_LABELS threads SOURCES ranks/train_threads.cpp LIBRARIES slipway_train slipway_infer)
slipway_test(calibration LABEL ranks EXTRA_LABELS threads SOURCES ranks/calibration.cpp LIBRARIES slipway_train)
set_tests_properties(calibration PROPERTIES RUN_SERIAL TRUE)  # compares times

slipway_python_test(ranks_e2e LABEL e2e SCRIPT tests/e2e/ranks.py ARGS $<TARGET_FILE:slipway>)
foreach(script muon life faults runs continue_runs interface profile plan report command_line)
  slipway_python_test(${script} LABEL e2e SCRIPT tests/e2e/${script}.py ARGS $<TARGET_FILE:slipway>)
endforeach()
slipway_python_test(kill_storm LABEL e2e SCRIPT tests/e2e/kill_storm.py ARGS $<TARGET_FILE:slipway> 15 1)
slipway_python_test(kill_storm_long LABEL nightly SCRIPT tests/e2e/kill_storm.py ARGS $<TARGET_FILE:slipway> 300 7 TIMEOUT 3600)
slipway_python_test(plan_measured LABEL nightly SCRIPT tests/e2e/plan_measured.py ARGS $<TARGET_FILE:slipway> TIMEOUT 7200)
set_tests_properties(ranks_e2e muon life faults runs continue_runs interface profile plan report plan_measured kill_storm kill_storm_long train_threads matrix_redistribution
  PROPERTIES PROCESSORS 2)  # each starts several ranks or as many threads as there are CPUs
# Signals during matmuls; then the life of a run on a processor with AVX2 only, where this one has more.
slipway_python_test(signals_e2e LABEL e2e SCRIPT tests/e2e/signals.py ARGS $<TARGET_FILE:slipway>)
slipway_python_test(signals_e2e_long LABEL nightly SCRIPT tests/e2e/signals.py ARGS $<TARGET_FILE:slipway> 100 7 TIMEOUT 7200)
set_tests_properties(signals_e2e signals_e2e_long PROPERTIES PROCESSORS 2)
set(SLIPWAY_AVX2_ENVIRONMENT SLIPWAY_INSTRUCTIONS=base ONEDNN_MAX_CPU_ISA=AVX2)
file(STRINGS /proc/cpuinfo avx512 REGEX "^flags.* avx512f " LIMIT_COUNT 1)
if(avx512)
  foreach(script ranks muon life runs)
    slipway_python_test(${script}_avx2 LABEL e2e SCRIPT tests/e2e/${script}.py ARGS $<TARGET_FILE:slipway>)
    set_tests_properties(${script}_avx2 PROPERTIES PROCESSORS 2 ENVIRONMENT "${SLIPWAY_MPI_ENVIRONMENT};${SLIPWAY_AVX2_ENVIRONMENT}")
  endforeach()
else()
  message(STATUS "this processor has AVX2 only: the end-to-end tests run on it, and are not repeated with less")
endif()
# The refactoring changes no bit: the last program before it against this one.
add_test(NAME unchanged COMMAND ${CMAKE_SOURCE_DIR}/tests/e2e/unchanged_since.sh 31e97f22a59e558202434c85ad9e7fe2317723d3 $<TARGET_FILE:slipway>)
set_tests_properties(unchanged PROPERTIES LABELS e2e TIMEOUT 2400 PROCESSORS 2 SKIP_RETURN_CODE 77 ENVIRONMENT "${SLIPWAY_MPI_ENVIRONMENT}")
slipway_nightly_test(transformers_logits SCRIPT tests/interop/transformers_logits.py ARGS $<TARGET_FILE:slipway>)
