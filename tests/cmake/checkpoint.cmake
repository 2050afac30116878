# Checkpoints: saving, damage, choosing, layouts; and what h5py, h5dump and safetensors see of them.
slipway_test(checkpoint LABEL unit EXTRA_LABELS threads LIBRARIES slipway_train
  SOURCES unit/checkpoint_save.cpp unit/copy_on_write_slices.cpp unit/checkpoint_damage.cpp unit/checkpoint_choice.cpp unit/slice_file.cpp)
slipway_test(checkpoint_layouts LABEL property LIBRARIES slipway_train SOURCES property/checkpoint_layouts.cpp)

add_executable(make_checkpoint ${CMAKE_SOURCE_DIR}/tests/interop/make_checkpoint.cpp)
target_link_libraries(make_checkpoint PRIVATE slipway_train)
slipway_python_test(checkpoint_interop LABEL interop SCRIPT tests/interop/checkpoint_h5py.py
  ARGS $<TARGET_FILE:slipway> $<TARGET_FILE:make_checkpoint>)
slipway_python_test(checkpoint_io_errors LABEL interop SCRIPT tests/interop/checkpoint_io_errors.py
  ARGS $<TARGET_FILE:slipway> $<TARGET_FILE:make_checkpoint>)
