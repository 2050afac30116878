# Ours and the peers in turns (docs/bench/peers.md): some hours, alone on the machine.
add_executable(all_reduce ${CMAKE_SOURCE_DIR}/tests/bench/all_reduce.cpp)
target_link_libraries(all_reduce PRIVATE slipway_comm MPI::MPI_CXX)
add_test(NAME bench COMMAND ${CMAKE_SOURCE_DIR}/tests/bench/run.sh)
set_tests_properties(bench PROPERTIES LABELS nightly TIMEOUT 21600 RUN_SERIAL TRUE
  ENVIRONMENT "BENCH_PROGRAM=$<TARGET_FILE:slipway>")
