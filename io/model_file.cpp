#include "io/model_file.hpp"

#include <cmath>

namespace slipway {

void ModelDescription::check(const std::string& where, Fault fault) const {
  const auto demand = [&](bool good, const std::string& sentence) {
    if (!good) throw Error(fault, join(where, ": ", sentence));
  };
  constexpr int kLargest =
      1 << 24;  // of any one size: far above any model, far below an overflow of products in 64 bits
  demand(architecture == "llama" || architecture == "qwen2" || architecture == "qwen3",
         join("the architecture is '", architecture, "', but Slipway knows llama, qwen2 and qwen3"));
  for (const auto& [key, value] : {std::pair{"layers", layers},
                                   {"width", width},
                                   {"heads", heads},
                                   {"kv_heads", kv_heads},
                                   {"head_width", head_width},
                                   {"ffn", ffn},
                                   {"vocabulary", vocabulary}})
    demand(value >= 1 && value <= kLargest, join("the model's ", key, " is ", value, ", expected 1 to ", kLargest));
  demand(context >= 1, join("the model's context is ", context, ", expected at least 1 token"));
  demand(heads % kv_heads == 0, join(heads, " heads cannot share ", kv_heads, " key-value heads evenly"));
  demand(head_width % 2 == 0, join("the head width is ", head_width, ", but RoPE turns pairs: it must be even"));
  const auto positive = [](double value) {  // also as f32, in which it is computed
    return static_cast<float>(value) > 0.0f && std::isfinite(static_cast<float>(value));
  };
  demand(positive(rope_base) && positive(norm_eps),
         join("the RoPE base is ", rope_base, " and the norm's epsilon ", norm_eps,
              ", expected positive numbers that f32 holds"));
  demand(architecture != "qwen2" || head_width * heads == width,
         join("qwen2 has no key for a head width of ", head_width, " beside width ", width, " / ", heads,
              " heads; make width = heads * head width, or take llama or qwen3"));
  demand(qk_norm == (architecture == "qwen3"), "q and k norms belong to qwen3, and only to it");
}

void TensorSource::read_stored(const std::string& name, std::span<std::byte>) const {
  throw Error(Fault::kBug, join("TensorSource::read_stored: ", name, " has no other form than f32"));
}

}  // namespace slipway
