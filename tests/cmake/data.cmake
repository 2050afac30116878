slipway_test(data_text_source LABEL unit SOURCES unit/data_text_source_test.cpp LIBRARIES slipway_data ZLIB::ZLIB PkgConfig::zstd)
