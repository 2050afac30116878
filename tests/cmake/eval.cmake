# Inference, and the jobs that judge: sampling, decoding, scores, qa, bench.
slipway_test(infer LABEL unit LIBRARIES slipway_infer
  SOURCES unit/infer_generate.cpp unit/sampler.cpp unit/score.cpp)
slipway_test(infer_laws LABEL property LIBRARIES slipway_infer SOURCES property/infer.cpp)
slipway_test(eval LABEL unit LIBRARIES slipway_eval slipway_export
  SOURCES unit/bench.cpp unit/qa.cpp unit/qa_policy.cpp)
slipway_python_test(models_e2e LABEL e2e SCRIPT tests/e2e/models.py ARGS $<TARGET_FILE:slipway>)
