# Model files and curves: GGUF, safetensors, NPY, TensorBoard, and the exports made of them.
slipway_test(formats LABEL unit LIBRARIES slipway_io
  SOURCES unit/gguf_file_test.cpp unit/gguf_model_test.cpp unit/npy_test.cpp unit/quant_test.cpp unit/safetensors_test.cpp
          unit/tensorboard_test.cpp)
slipway_test(export LABEL unit LIBRARIES slipway_export SOURCES unit/gguf_export_test.cpp)

add_executable(format_probe ${CMAKE_SOURCE_DIR}/tests/foreign/format_probe.cpp)
target_link_libraries(format_probe PRIVATE slipway_export)
foreach(script gguf_oracle safetensors_oracle tensorboard_oracle llama_logits)
  slipway_python_test(${script} LABEL foreign SCRIPT tests/foreign/${script}.py ARGS $<TARGET_FILE:format_probe>)
endforeach()
