// The keys model.*: a preset, and the keys that override it.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>

#include "io/model/model_spec.hpp"
#include "src/core/config.hpp"

namespace slipway {

/// The model's shape. A key that is 0, empty or "preset" takes the preset's value.
struct ModelConfig {
  std::string preset = "llama-8m";
  ModelSpec shape = unset_shape();              ///< the values that were given; resolve() completes it
  std::map<std::string, std::string> switches;  ///< keys of the shape that are on, off or "preset"

  template <class Self, class Visit>
  static void fields(Self& self, Visit&& visit) {
    visit("model.preset", self.preset,
          {"family (llama, qwen2, qwen3; gpt2) and size: 1m, 8m, 30m, 124m, 500m, 1b or 7b (gpt2: 1m, 8m)",
           "FAMILY-SIZE", HelpVisibility::kFirst});
    ModelSpec::fields([&](const SpecField& field, auto member) {
      if (*field.key == '\0') return;
      const Help help{field.help, field.placeholder};
      if constexpr (std::is_same_v<decltype(member), bool ModelSpec::*>)
        visit(field.key, self.switches.try_emplace(field.key, "preset").first->second, help);
      else visit(field.key, self.shape.*member, help);
    });
  }

  /// Fills in the preset's values for keys that were not given; the context defaults to `sequence`.
  /// Errors   Fault::kConfig for an unknown preset (naming the nearest) or invalid sizes.
  void resolve(int sequence);
  /// The complete spec for a tokenizer of `vocabulary` tokens. Call after resolve().
  /// Errors   Fault::kConfig for more tokens than rows, and for more parameters than can be counted.
  ModelSpec spec(int vocabulary) const;
  /// Sets the shape to that of `model`, except for keys of which `is_set(key)` is true.
  void copy_shape(const ModelSpec& model, const std::function<bool(std::string_view key)>& is_set);
  /// The preset's learning rate. Errors: Fault::kConfig for an unknown preset.
  double preset_peak_lr() const;

 private:
  static ModelSpec unset_shape();
  void check_shape() const;
};

}  // namespace slipway
