# Model files and curves: GGUF, safetensors, NPY, TensorBoard.
slipway_test(formats LABEL unit LIBRARIES slipway_io
  SOURCES unit/gguf_file_test.cpp unit/gguf_model_test.cpp unit/npy_test.cpp unit/quant_test.cpp unit/safetensors_test.cpp
          unit/tensorboard_test.cpp)
