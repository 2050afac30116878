#include "src/eval/provenance.hpp"

#include "kernels/backend/cpu_backend.hpp"
#include "kernels/backend/device.hpp"
#include "src/core/clock.hpp"
#include "src/core/hash.hpp"

namespace slipway {

std::string compute_class(const LoadedModel& model) {
  return join(model.backend().name, "/", model.backend().gemm_library, "/", name(model.compute_dtype()));
}

void add_provenance(Json& report, const LoadedModel& model) {
  report["model_sha256"] = model.weights_sha256();
  if (model.bundle().kind == "gguf") report["file_sha256"] = sha256_file(model.bundle().folder, Fault::kStorage);
  report["tokenizer_sha256"] = model.tokenizer().sha256();
  report["compute_class"] = compute_class(model);
  report["threads"] = model.backend().threads;
  report["device"] = model.backend().device;
  report["hardware"] = hardware_name(model.backend());
  report["cpu"] = cpu_features().model;
  report["version"] = SLIPWAY_VERSION;
  report["timestamp"] = utc_now();
}

}  // namespace slipway
