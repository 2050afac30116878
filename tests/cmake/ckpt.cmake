# Checkpoints: saving, damage, choosing, layouts; and what h5py, h5dump and safetensors see of them.
slipway_test(checkpoint LABEL unit EXTRA_LABELS threads LIBRARIES slipway_train
  SOURCES unit/checkpoint_save.cpp unit/copy_on_write_slices.cpp unit/checkpoint_damage.cpp unit/checkpoint_choice.cpp unit/slice_file.cpp)
slipway_test(checkpoint_layouts LABEL property LIBRARIES slipway_train SOURCES property/checkpoint_layouts.cpp)

add_executable(checkpoint_make ${CMAKE_SOURCE_DIR}/tests/foreign/checkpoint_make.cpp)
target_link_libraries(checkpoint_make PRIVATE slipway_train)
slipway_python_test(checkpoint_foreign LABEL foreign SCRIPT tests/foreign/checkpoint_h5py.py
  ARGS $<TARGET_FILE:slipway> $<TARGET_FILE:checkpoint_make>)
slipway_python_test(checkpoint_io_errors LABEL foreign SCRIPT tests/foreign/checkpoint_io_errors.py
  ARGS $<TARGET_FILE:slipway> $<TARGET_FILE:checkpoint_make>)
