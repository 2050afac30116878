# Model files and curves: GGUF, safetensors, NPY, TensorBoard, and the exports made of them.
slipway_test(formats LABEL unit LIBRARIES slipway_model
  SOURCES unit/gguf_file_test.cpp unit/gguf_model_test.cpp unit/model_spec.cpp unit/npy_test.cpp unit/quant_test.cpp unit/safetensors_folder_test.cpp
          unit/safetensors_test.cpp unit/tensorboard_test.cpp)
slipway_test(export LABEL unit LIBRARIES slipway_export SOURCES unit/gguf_export_test.cpp)

add_executable(format_probe ${CMAKE_SOURCE_DIR}/tests/interop/format_probe.cpp)
target_link_libraries(format_probe PRIVATE slipway_export)
foreach(script gguf_oracle hugging_face_folder safetensors_oracle tensorboard_oracle llama_logits)
  slipway_python_test(${script} LABEL interop SCRIPT tests/interop/${script}.py ARGS $<TARGET_FILE:format_probe>)
endforeach()
slipway_nightly_test(transformers_folder SCRIPT tests/interop/transformers_folder.py ARGS $<TARGET_FILE:format_probe>)
foreach(script imports imported_training smollm2)
  slipway_nightly_test(${script} SCRIPT tests/interop/${script}.py ARGS $<TARGET_FILE:slipway> ${SLIPWAY_ORACLE_PYTHON})
endforeach()
set_tests_properties(smollm2 PROPERTIES SKIP_RETURN_CODE 77)

# Files that nobody wrote, read as the program reads them; in the asan build also under its sanitizers (SECURITY.md).
slipway_test(mutated_files LABEL property EXTRA_LABELS mpi SOURCES property/mutated_models.cpp property/mutated_data.cpp property/mutated_runs.cpp support/fuzz.cpp
  LIBRARIES slipway_launch ZLIB::ZLIB PkgConfig::zstd)
target_compile_definitions(test_mutated_files PRIVATE SLIPWAY_SOURCE="${CMAKE_SOURCE_DIR}")
add_test(NAME mutated_files_long COMMAND test_mutated_files --gtest_brief=1)
set_tests_properties(mutated_files_long PROPERTIES LABELS nightly TIMEOUT 7200 PROCESSORS 2
  ENVIRONMENT "${SLIPWAY_MPI_ENVIRONMENT};SLIPWAY_MUTATIONS=3000")
