// safetensors as bytes and as a Hugging Face folder. What the reference package reads:
// tests/interop/safetensors_oracle.py.
#include <gtest/gtest.h>

#include "io/model/hugging_face_config.hpp"
#include "io/model/hugging_face_model.hpp"
#include "io/model/tensor_layout.hpp"
#include "src/core/json.hpp"
#include "tests/support/core_files.hpp"
#include "tests/support/malformed.hpp"
#include "tests/support/random_model.hpp"

namespace slipway {
namespace {

using test::RandomWeights;
using test::stretched_spec;
using test::tiny_spec;

void write_sample(const std::filesystem::path& path) {
  const std::vector<SafeTensor> plan = {{.tensor = {"a", {2, 3}}, .dtype = DType::kF32},
                                        {.tensor = {"b", {5}}, .dtype = DType::kBf16},
                                        {.tensor = {"c", {1, 2, 2}}, .dtype = DType::kF16}};
  write_safetensors(path, {{"format", "pt"}, {"note", "ü"}}, plan, [&](std::size_t i, const ByteSink& sink) {
    const TensorType type = i == 0 ? TensorType::kF32 : i == 1 ? TensorType::kBf16 : TensorType::kF16;
    std::vector<float> values(static_cast<std::size_t>(plan[i].tensor.size()));
    for (std::size_t k = 0; k < values.size(); ++k) values[k] = static_cast<float>(k) - 1.5f;
    std::vector<std::byte> bytes(static_cast<std::size_t>(bytes_of(type, plan[i].tensor.size())));
    encode(type, values, bytes);
    sink(bytes);
  });
}

void open_all(const std::string& bytes) {
  static const ScratchFolder folder;
  test::write_new_file(folder / "candidate", bytes);
  const SafetensorsFile file(folder / "candidate");
  for (const SafeTensor& tensor : file.tensors()) {
    std::vector<float> values(static_cast<std::size_t>(tensor.tensor.size()));
    file.read(tensor, values);
  }
}

std::string make_file(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(data_bytes, '\0');
}

TEST(Safetensors, GivesBackTensorsAndMetadata) {
  const ScratchFolder folder;
  write_sample(folder / "m");
  const SafetensorsFile file(folder / "m");
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"note", "ü"}}));
  ASSERT_EQ(file.tensors().size(), 3u);
  EXPECT_EQ(file.tensors()[0].offset % 8, 0u) << "data begin on a multiple of 8";
  EXPECT_EQ(file.at("c").tensor.shape, (std::vector<std::int64_t>{1, 2, 2}));
  std::vector<float> values(5);
  file.read(file.at("b"), values);
  EXPECT_EQ(values, (std::vector<float>{-1.5f, -0.5f, 0.5f, 1.5f, 2.5f}));
}

TEST(Safetensors, EveryCutIsRefusedAndFlippedBytesNeverCrash) {
  const ScratchFolder folder;
  write_sample(folder / "m");
  const std::string good = read_file(folder / "m", Fault::kStorage);
  test::expect_truncation_refused(good, good.size(), Fault::kStorage, open_all);
  test::expect_byte_flips_handled(good, good.size() - 42, /*rounds=*/1500, Fault::kStorage, open_all);
}

TEST(Safetensors, LyingHeadersAreRefusedWithTheReason) {
  const auto expect_refused = [](const std::string& substring, const std::string& header, std::size_t bytes) {
    expect_error(Fault::kStorage, substring, [&] { open_all(make_file(header, bytes)); });
  };
  expect_refused("which its shape and type contradict", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4);
  expect_refused("lies at bytes 0 to 8 of 4", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4);
  expect_refused("begins at byte 4, expected 0", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8);
  expect_refused(
      "begins at byte 0, expected 4",
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
      4);
  expect_refused("the tensors take 4 bytes, but 8 are there",
                 R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 8);
  expect_refused("is stored as \"I64\"", R"({"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})", 8);
  expect_refused("impossible shape", R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})",
                 0);
  expect_refused("lacks a dtype", R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4);
  expect_refused("lacks a dtype", R"({"a":[1]})", 4);
  expect_refused("no JSON object", "[1]", 0);
  expect_refused("not valid JSON", "{", 0);
  expect_refused("nested 100000 deep", std::string(100000, '['), 0);
}

void expect_folder_gives_back(const ModelSpec& model) {
  const ScratchFolder folder;
  const RandomWeights weights(model, 2);
  const std::vector<FileTensor> tensors = to_file_tensors(model, ModelFormat::kHuggingFace, weights.tensors());
  std::vector<SafeTensor> plan;
  for (const FileTensor& tensor : tensors) plan.push_back({.tensor = tensor.stored});
  atomic_write_file(folder / "config.json", hugging_face_config(model, DType::kF32, -1, 0));
  write_safetensors(folder / "model.safetensors",
                    {{"slipway.name", model.name}, {"slipway.run", "test"}, {"slipway.steps", "7"}}, plan,
                    [&](std::size_t i, const ByteSink& sink) {
                      std::vector<float> stored(static_cast<std::size_t>(plan[i].tensor.size())), values;
                      for (std::size_t p = 0; p < tensors[i].parts.size(); ++p) {
                        values.resize(static_cast<std::size_t>(tensors[i].parts[p].size()));
                        weights.read(tensors[i].parts[p].name, values);
                        insert_part(tensors[i], p, values, stored);
                      }
                      sink(std::as_bytes(std::span(stored)));
                    });
  const HuggingFaceModel reopened(folder.path());
  EXPECT_EQ(reopened.spec(), model) << model.name << ": " << describe_difference(reopened.spec(), model);
  EXPECT_EQ(reopened.tensors(), weights.tensors()) << model.name;
  for (const TensorInfo& tensor : weights.tensors()) {
    std::vector<float> original(static_cast<std::size_t>(tensor.size())), actual(original.size());
    weights.read(tensor.name, original);
    reopened.read(tensor.name, actual);
    EXPECT_EQ(actual, original) << model.name << " " << tensor.name;
  }
}

TEST(Safetensors, AFolderGivesBackDescriptionAndWeights) {
  for (const char* architecture : {"llama", "qwen2", "qwen3", "gpt2"})
    for (const bool tied : {true, false}) expect_folder_gives_back(tiny_spec(architecture, tied));
  for (const char* scaling : {"linear", "llama3"}) expect_folder_gives_back(stretched_spec(scaling));
  ModelSpec biased = tiny_spec("llama", true);
  biased.qkv_bias = biased.output_bias = true, biased.head_width = 20;
  expect_folder_gives_back(biased);
}

TEST(Safetensors, AConfigThatAsksForOtherArithmeticIsRefused) {
  const ScratchFolder folder;
  const std::string good = hugging_face_config(tiny_spec("llama", true), DType::kF32, 0, 0);
  const auto config_with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const std::size_t offset = text.find(from);
    if (offset == std::string::npos) throw std::runtime_error("no " + from);
    atomic_write_file(folder / "config.json", text.replace(offset, from.size(), to));
    return spec_of_config(folder / "config.json");
  };
  EXPECT_NO_THROW(config_with("silu", "silu"));
  const auto config_adding = [&](const std::string& pair) { return config_with("\"rope_scaling\": null", pair); };
  for (const char* harmless :
       {R"("rope_scaling": {"rope_type": "default"})",
        R"("rope_parameters": {"rope_type": "default", "rope_theta": 50000.0})",
        R"("rope_scaling": {"rope_type": "default", "factor": 4.0})", R"("use_sliding_window": false)",
        R"("sliding_window": 128)", R"("partial_rotary_factor": 1.0)",
        R"("layer_types": ["full_attention", "full_attention"])", R"("num_experts": 0)"})
    EXPECT_NO_THROW(config_adding(harmless)) << harmless;
  for (const auto& [key, value] : std::initializer_list<std::pair<std::string, std::string>>{
           {"rope_scaling", R"({"rope_type":"yarn","factor":4.0})"},
           {"rope_scaling", R"({"rope_type":"dynamic","factor":4.0})"},
           {"rope_scaling", R"({"rope_type":"linear","factor":4.0,"attention_factor":0.5})"},
           {"rope_scaling", R"({"factor":4.0})"},
           {"rope_scaling", R"("linear")"},
           {"rope_parameters", R"({"partial_rotary_factor":0.5})"},
           {"partial_rotary_factor", "0.5"},
           {"use_sliding_window", "1"},
           {"sliding_window", "127"},
           {"layer_types", R"(["full_attention","sliding_attention"])"},
           {"layer_types", R"(["full_attention"])"},
           {"is_causal", "false"},
           {"tie_word_embeddings", "1"},
           {"final_logit_softcapping", "30.0"},
           {"num_local_experts", "8"},
           {"logits_scaling", "8.0"},
           {"quantization_config", R"({"bits":4})"}})
    expect_error(Fault::kStorage, "the key " + key + " is " + value,
                 [&, pair = "\"" + key + "\": " + value] { config_adding(pair); });
  expect_error(Fault::kStorage, R"(the key hidden_act is "gelu")", [&] { config_with("silu", "gelu"); });
  expect_error(Fault::kStorage, "the model_type is 'mamba', but Slipway knows llama",
               [&] { config_with("\"model_type\": \"llama\"", "\"model_type\": \"mamba\""); });
  expect_error(Fault::kStorage, "the key vocab_size is missing", [&] { config_with("vocab_size", "vocab"); });
  expect_error(Fault::kStorage, "the key attention_bias is 1",
               [&] { config_with("\"attention_bias\": false", "\"attention_bias\": 1"); });
  expect_error(Fault::kStorage, "the key rope_scaling has no number factor",
               [&] { config_adding(R"("rope_scaling": {"rope_type": "llama3"})"); });
  expect_error(Fault::kStorage, "the key rope_scaling has no number low_freq_factor",
               [&] { config_adding(R"("rope_scaling": {"rope_type": "llama3", "factor": 8.0})"); });
}

TEST(Safetensors, TwoKeysForOneValueMustAgree) {
  const ScratchFolder folder;
  const auto config_with = [&](const std::string& keys) {
    Json config = Json::parse(hugging_face_config(tiny_spec("llama", true), DType::kF32, 0, 0));
    config.merge_patch(Json::parse(keys));
    atomic_write_file(folder / "config.json", to_pretty(config));
    return spec_of_config(folder / "config.json");
  };
  const std::string llama3 = R"("rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0)";
  EXPECT_EQ(config_with(R"({"rope_parameters": {"rope_type": "default", "rope_theta": 50000.0}})").rope_base, 5e4);
  EXPECT_EQ(config_with("{\"original_max_position_embeddings\": 64, \"rope_scaling\": {" + llama3 + "}}")
                .rope_original_context,
            64);
  EXPECT_EQ(config_with("{\"rope_scaling\": {" + llama3 + "}}").rope_original_context,
            tiny_spec("llama", true).context);
  for (
      const std::string& keys :
      {std::string(R"({"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}})"),
       std::string(
           R"({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "linear", "factor": 4.0}})"),
       "{\"original_max_position_embeddings\": 64, \"rope_scaling\": {" + llama3 +
           ", \"original_max_position_embeddings\": 32}}"})
    expect_error(Fault::kStorage, "; keep the one that is meant", [&] { config_with(keys); });
  expect_error(Fault::kStorage, "the key rope_scaling is", [&] {
    config_with("{\"rope_scaling\": {" + llama3 + ", \"original_max_position_embeddings\": 64.5}}");
  });
}

TEST(Safetensors, AKeyThatIsLeftOutHasTransformersDefault) {
  const ScratchFolder folder;
  const auto spec_without = [&](const char* architecture, std::initializer_list<const char*> keys) {
    Json config = Json::parse(hugging_face_config(tiny_spec(architecture, true), DType::kF32, 0, 0));
    for (const char* key : keys) config.erase(key);
    atomic_write_file(folder / "config.json", to_pretty(config));
    return spec_of_config(folder / "config.json");
  };
  const ModelSpec llama = spec_without("llama", {"rms_norm_eps", "max_position_embeddings", "head_dim"});
  EXPECT_EQ(llama.norm_eps, 1e-6);
  EXPECT_EQ(llama.context, 2048);
  EXPECT_EQ(llama.head_width, llama.width / llama.heads);
  EXPECT_EQ(spec_without("qwen2", {"max_position_embeddings"}).context, 32768);
  EXPECT_EQ(spec_without("qwen3", {"head_dim"}).head_width, 128);
  EXPECT_EQ(spec_without("gpt2", {"layer_norm_epsilon"}).norm_eps, 1e-5);
  EXPECT_EQ(spec_without("gpt2", {"n_positions"}).context, 1024);
}

TEST(Safetensors, RopeIsReadAsOlderAndNewerTransformersWriteIt) {
  const ScratchFolder folder;
  const auto config_with = [&](const std::string& rope) {
    std::string text = hugging_face_config(tiny_spec("llama", true), DType::kF32, 0, 0);
    const std::string from = "\"rope_scaling\": null";
    text.replace(text.find(from), from.size(), rope);
    if (rope.find("rope_theta") != std::string::npos) text.replace(text.find("\"rope_theta\": 50000.0,"), 22, "");
    atomic_write_file(folder / "config.json", text);
    return spec_of_config(folder / "config.json");
  };
  ModelSpec expected = tiny_spec("llama", true);
  expected.name = "", expected.provenance = {};
  expected.rope_scaling = "linear", expected.rope_factor = 2.5;
  EXPECT_EQ(config_with(R"("rope_scaling": {"type": "linear", "factor": 2.5})"), expected);
  expected.rope_base = 7e4;
  EXPECT_EQ(config_with(R"("rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 70000.0})"),
            expected);
  expected.rope_scaling = "llama3", expected.rope_low = 1.5, expected.rope_high = 5,
  expected.rope_original_context = 2048;
  EXPECT_EQ(config_with(R"("rope_parameters": {"rope_type": "llama3", "factor": 2.5, "low_freq_factor": 1.5,
                 "high_freq_factor": 5.0, "original_max_position_embeddings": 2048, "rope_theta": 70000.0})"),
            expected);
  EXPECT_EQ(config_with(R"("rope_scaling": {"rope_type": "linear", "factor": 1.0})").rope_scaling, "none");
}

TEST(Safetensors, Gpt2sConfigHasNamesAndDefaultsOfItsOwn) {
  const ScratchFolder folder;
  const auto gpt2_config_with = [&](const std::string& extra) {
    atomic_write_file(folder / "config.json",
                      R"({"model_type": "gpt2", "n_layer": 2, "n_embd": 96, "n_head": 6, "n_positions": 128,
                 "layer_norm_epsilon": 1e-05, "vocab_size": 290, "n_ctx": 128)" +
                          extra + "}");
    return spec_of_config(folder / "config.json");
  };
  ModelSpec expected = tiny_spec("gpt2", true);
  expected.name = "", expected.provenance = {}, expected.ffn = 4 * 96;
  EXPECT_EQ(gpt2_config_with(R"(, "num_attention_heads": 6)"), expected);
  expect_error(Fault::kStorage, "the key n_head is 6, but num_attention_heads is 8; keep the one that is meant",
               [&] { gpt2_config_with(R"(, "num_attention_heads": 8)"); });
  EXPECT_EQ(gpt2_config_with(""), expected);
  EXPECT_EQ(gpt2_config_with(R"(, "n_inner": null, "activation_function": "gelu_pytorch_tanh")"), expected);
  expected.ffn = 160, expected.tied = false;
  EXPECT_EQ(gpt2_config_with(R"(, "n_inner": 160, "tie_word_embeddings": false)"), expected);
  for (const auto& [key, value] :
       std::initializer_list<std::pair<std::string, std::string>>{{"activation_function", "\"relu\""},
                                                                  {"scale_attn_weights", "false"},
                                                                  {"scale_attn_by_inverse_layer_idx", "true"},
                                                                  {"add_cross_attention", "true"}})
    expect_error(Fault::kStorage, "the key " + key + " is " + value,
                 [&, pair = ", \"" + key + "\": " + value] { gpt2_config_with(pair); });
  expect_error(Fault::kStorage, "the key n_head is missing", [&] {
    atomic_write_file(folder / "config.json", R"({"model_type": "gpt2", "n_layer": 2, "n_embd": 96})");
    spec_of_config(folder / "config.json");
  });
}

}  // namespace
}  // namespace slipway
