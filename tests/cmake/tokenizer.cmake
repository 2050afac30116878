slipway_test(tokenizer LABEL unit SOURCES unit/hugging_face_tokenizer.cpp unit/tokenizer.cpp unit/tokenizer_split.cpp LIBRARIES slipway_data)
slipway_test(tokenizer_property LABEL property EXTRA_LABELS threads SOURCES property/tokenizer.cpp LIBRARIES slipway_data)
slipway_python_test(tokenizer_interop LABEL interop SCRIPT tests/interop/tokenizer.py ARGS $<TARGET_FILE:slipway> TIMEOUT 1200)
