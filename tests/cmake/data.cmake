slipway_test(data_text_source LABEL unit SOURCES unit/data_text_source_test.cpp LIBRARIES slipway_data ZLIB::ZLIB PkgConfig::zstd)
slipway_test(data_inputs LABEL unit SOURCES unit/data_inputs_test.cpp LIBRARIES slipway_data ZLIB::ZLIB)
slipway_test(data_token_shard LABEL unit SOURCES unit/data_token_shard_test.cpp LIBRARIES slipway_data)
slipway_test(data_prepare LABEL unit EXTRA_LABELS threads SOURCES unit/data_prepare_test.cpp LIBRARIES slipway_data)
slipway_test(loader LABEL property EXTRA_LABELS threads SOURCES property/loader_property_test.cpp LIBRARIES slipway_data)

add_test(NAME data_cli COMMAND ${CMAKE_SOURCE_DIR}/tests/e2e/data_cli.sh $<TARGET_FILE:slipway>)
set_tests_properties(data_cli PROPERTIES LABELS e2e TIMEOUT 300)
slipway_python_test(data_inputs_e2e LABEL e2e SCRIPT tests/e2e/data_inputs.py ARGS $<TARGET_FILE:slipway>)
