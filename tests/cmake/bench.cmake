# Ours and the peers in turns (docs/bench/peers.md): some hours, alone on the machine.
add_test(NAME bench COMMAND ${CMAKE_SOURCE_DIR}/tests/bench/run.sh)
set_tests_properties(bench PROPERTIES LABELS nightly TIMEOUT 21600 RUN_SERIAL TRUE
  ENVIRONMENT "BENCH_PROGRAM=$<TARGET_FILE:slipway>")
