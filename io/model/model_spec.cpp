#include "io/model/model_spec.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numbers>
#include <optional>
#include <type_traits>

#include "io/model/model_family.hpp"
#include "src/core/words.hpp"

namespace slipway {
namespace {

constexpr int kMaxSize = 1 << 24;  // of any one size: far above any model, far below an overflow of 64-bit products

// The words of a pattern over layers.
constexpr std::pair<std::string_view, MixerKind> kMixers[] = {{"attention", MixerKind::kAttention}};
constexpr std::pair<std::string_view, FeedForwardKind> kFeedForwards[] = {{"swiglu", FeedForwardKind::kSwiglu},
                                                                          {"gelu", FeedForwardKind::kGelu}};

/// The kind of `word` in `table`; empty when it is unknown.
template <class Kind, std::size_t n>
std::optional<Kind> find_kind(std::string_view word, const std::pair<std::string_view, Kind> (&table)[n]) {
  for (const auto& [name, kind] : table)
    if (name == word) return kind;
  return std::nullopt;
}

/// "attention, attention+swiglu or attention+gelu", for messages.
std::string list_block_kinds() {
  std::vector<std::string> kinds;
  for (const auto& mixer : kMixers) {
    kinds.emplace_back(mixer.first);
    for (const auto& feed_forward : kFeedForwards) kinds.push_back(join(mixer.first, "+", feed_forward.first));
  }
  return join_or(kinds);
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

/// Removes the part of `text` before the first `separator`, and the separator; returns the part, trimmed.
std::string_view split_front(std::string_view& text, char separator) {
  const std::size_t position = text.find(separator);
  const std::string_view front = text.substr(0, position);
  text = position == std::string_view::npos ? std::string_view() : text.substr(position + 1);
  return trimmed(front);
}

/// Appends the kinds of one piece of a pattern, `mixer[+feedforward][*n]`, up to `layers` kinds in all.
void append_block_kinds(std::vector<BlockKind>& kinds, std::string_view piece, int layers,
                        FeedForwardKind default_feed_forward, Fault fault) {
  const std::string text(piece);
  const auto refuse = [&](const std::string& what) {
    throw Error(fault, join("model.blocks has '", text, "', ", what, "; expected ", list_block_kinds(),
                            ", each with *n for n layers"));
  };
  std::string_view kind_text = split_front(piece, '*');
  int repeats = 1;
  if (!piece.empty() || text.ends_with('*')) {
    const std::string_view number = trimmed(piece);
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), repeats);
    if (error != std::errc{} || end != number.data() + number.size() || repeats < 1)
      refuse("whose count is no number of layers");
  }
  const bool has_feed_forward = kind_text.find('+') != std::string_view::npos;
  const std::optional<MixerKind> mixer = find_kind(split_front(kind_text, '+'), kMixers);
  if (!mixer) refuse("whose mixer is unknown");
  const std::optional<FeedForwardKind> feed_forward =
      has_feed_forward ? find_kind(trimmed(kind_text), kFeedForwards) : default_feed_forward;
  if (!feed_forward) refuse("whose feed-forward layer is unknown");
  for (int i = 0; i < repeats && std::ssize(kinds) < layers; ++i) kinds.push_back({*mixer, *feed_forward});
}

std::string to_text(bool value) { return value ? "on" : "off"; }
template <class T>
std::string to_text(const T& value) {
  return join(value);
}

/// Whether two values are equal after a round trip through a GGUF, which stores reals as f32.
template <class T>
bool equal_in_gguf(const T& a, const T& b) {
  if constexpr (std::is_same_v<T, double>) return static_cast<float>(a) == static_cast<float>(b);
  else return a == b;
}

}  // namespace

std::vector<BlockKind> parse_blocks(const std::string& pattern, int layers, FeedForwardKind default_feed_forward,
                                    Fault fault) {
  std::vector<BlockKind> kinds;
  for (std::string_view remaining = pattern; !remaining.empty();)
    append_block_kinds(kinds, split_front(remaining, ','), layers, default_feed_forward, fault);
  if (kinds.empty()) throw Error(fault, "model.blocks is empty; expected a pattern such as attention+swiglu");
  for (std::size_t i = 0; std::ssize(kinds) < layers; ++i) kinds.push_back(BlockKind(kinds[i]));
  return kinds;
}

std::vector<BlockKind> ModelSpec::block_kinds() const {
  const ModelFamily* family = find_family(architecture);
  FeedForwardKind default_feed_forward = FeedForwardKind::kSwiglu;
  if (family != nullptr)
    default_feed_forward =
        parse_blocks(family->defaults.blocks, 1, default_feed_forward, Fault::kConfig).front().feed_forward;
  return parse_blocks(blocks, layers, default_feed_forward, Fault::kConfig);
}

std::vector<float> ModelSpec::rope_freq_factors() const {
  if (rope_scaling == "none") return {};
  std::vector<float> divisors(static_cast<std::size_t>(head_width / 2), static_cast<float>(rope_factor));
  if (rope_scaling == "linear") return divisors;
  // Source: Llama 3.1, "rope_type": "llama3".
  for (std::size_t j = 0; j < divisors.size(); ++j) {
    const double frequency = std::pow(rope_base, -2.0 * static_cast<double>(j) / head_width),
                 wavelength = 2 * std::numbers::pi / frequency, context_length = rope_original_context;
    if (wavelength < context_length / rope_high) divisors[j] = 1;
    else if (wavelength <= context_length / rope_low) {
      const double smooth = (context_length / wavelength - rope_low) / (rope_high - rope_low);
      divisors[j] = static_cast<float>(1 / ((1 - smooth) / rope_factor + smooth));
    }
  }
  return divisors;
}

void ModelSpec::check(const std::string& source_name, Fault fault) const {
  const auto demand = [&](bool condition, const std::string& message) {
    if (!condition) throw Error(fault, join(source_name, ": ", message));
  };
  const ModelFamily* const family = find_family(architecture);
  demand(family != nullptr, join("the architecture is '", architecture, "', but Slipway knows ", family_names()));
  for (const auto& [key, value] : {std::pair{"layers", layers},
                                   {"width", width},
                                   {"heads", heads},
                                   {"kv_heads", kv_heads},
                                   {"head_width", head_width},
                                   {"ffn", ffn},
                                   {"vocabulary", vocabulary}})
    demand(value >= 1 && value <= kMaxSize, join("the model's ", key, " is ", value, ", expected 1 to ", kMaxSize));
  demand(context >= 1, join("the model's context is ", context, ", expected at least 1 token"));
  demand(heads % kv_heads == 0, join(heads, " heads cannot share ", kv_heads, " key-value heads evenly"));
  demand(learned_positions || head_width % 2 == 0,
         join("the head width is ", head_width, ", but RoPE turns pairs: it must be even"));
  const auto is_positive_f32 = [](double value) {  // after rounding to f32, in which it is used
    return static_cast<float>(value) > 0.0f && std::isfinite(static_cast<float>(value));
  };
  demand(is_positive_f32(rope_base),
         join("the RoPE base is ", rope_base, ", expected a positive number that f32 holds"));
  demand(is_positive_f32(norm_eps),
         join("the norm's epsilon is ", norm_eps, ", expected a positive number that f32 holds"));
  demand(rope_scaling == "none" || rope_scaling == "linear" || rope_scaling == "llama3",
         join("the RoPE scaling is '", rope_scaling, "', expected none, linear or llama3"));
  demand(rope_scaling == "none" || (static_cast<float>(rope_factor) > 1 && std::isfinite(rope_factor)),
         join("the RoPE factor is ", rope_factor, ", expected more than 1 with RoPE scaling ", rope_scaling));
  demand(rope_scaling != "none" || rope_factor == 1,
         join("the RoPE factor is ", rope_factor, ", which does nothing without a RoPE scaling, linear or llama3"));
  demand(rope_scaling != "llama3" || (rope_low > 0 && rope_high > rope_low && rope_original_context >= 1),
         join("llama3's frequency factors are ", rope_low, " and ", rope_high, " and its original context ",
              rope_original_context, ", expected rising positive factors and at least 1 token"));
  demand(family->has_head_width || head_width * heads == width,
         join(architecture, " has no key for a head width of ", head_width, " beside width ", width, " / ", heads,
              " heads; make width = heads * head width, or take llama or qwen3"));
  demand(!learned_positions || (rope_scaling == "none" && rope_base == ModelSpec().rope_base),
         join(architecture, " has learned positions and no RoPE: leave its base and its scaling as they are"));
  demand(family->has_kv_heads || heads == kv_heads,
         join(architecture, " has ", heads, " heads and ", kv_heads, " key-value heads, expected as many of both"));
  demand(qk_norm == family->defaults.qk_norm, "q and k norms belong to qwen3, and only to it");
  parse_blocks(blocks, 1, FeedForwardKind::kSwiglu, fault);  // checks every piece, whatever the number of layers
}

std::string describe_difference(const ModelSpec& here, const ModelSpec& there) {
  std::string message;
  ModelSpec::fields([&](const SpecField& field, auto member) {
    if (!message.empty() || equal_in_gguf(here.*member, there.*member)) return;
    const std::string_view json = field.json;
    if (json == "max_position_embeddings" && !here.learned_positions) return;  // RoPE has no table of positions
    if (json == "blocks" && here.layers == there.layers && here.block_kinds() == there.block_kinds()) return;
    const bool use_name = *field.key == '\0' || json == "vocab_size";
    message = join(use_name ? field.name : field.key, " is ", to_text(here.*member), " here and ",
                   to_text(there.*member), " there");
  });
  return message;
}

}  // namespace slipway
