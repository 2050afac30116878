# Groups, the launcher's side of the program, and what users see of both under mpirun.
add_library(comm_launch STATIC ${CMAKE_SOURCE_DIR}/launch/process/launcher.cpp ${CMAKE_SOURCE_DIR}/launch/run_folder/run_lock.cpp
            ${CMAKE_SOURCE_DIR}/launch/process/signals.cpp ${CMAKE_SOURCE_DIR}/launch/process/crash_record.cpp
            ${CMAKE_SOURCE_DIR}/launch/process/streams.cpp)  # without the commands, which need every folder
target_link_libraries(comm_launch PUBLIC slipway_comm slipway_io slipway_kernels)

slipway_test(comm LABEL unit EXTRA_LABELS threads SOURCES unit/comm_test.cpp LIBRARIES slipway_comm)
slipway_test(lock LABEL unit SOURCES unit/lock_test.cpp LIBRARIES comm_launch)
slipway_test(signals LABEL unit SOURCES unit/signals_test.cpp LIBRARIES comm_launch)
slipway_test(comm_ranks LABEL ranks MPI 1 2 3 4 SOURCES ranks/comm_test.cpp support/ranks_main.cpp LIBRARIES slipway_comm)

add_executable(comm_probe ${CMAKE_SOURCE_DIR}/tests/e2e/comm_probe.cpp)
target_link_libraries(comm_probe PRIVATE comm_launch)
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME comm_e2e COMMAND Python3::Interpreter ${CMAKE_SOURCE_DIR}/tests/e2e/comm.py $<TARGET_FILE:comm_probe> ${CMAKE_SOURCE_DIR}/launch/run)
set_tests_properties(comm_e2e PROPERTIES LABELS "e2e;mpi" TIMEOUT 300 PROCESSORS 2 ENVIRONMENT "${SLIPWAY_MPI_ENVIRONMENT}")
