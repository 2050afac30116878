// A Hugging Face folder's weights in one file or in shards: equal to each other, and what is refused. Folders that
// transformers wrote: tests/interop/hugging_face_folder.py.
#include <gtest/gtest.h>

#include "io/model/hugging_face_config.hpp"
#include "io/model/hugging_face_model.hpp"
#include "io/model/tensor_layout.hpp"
#include "src/core/json.hpp"
#include "tests/support/core_files.hpp"
#include "tests/support/random_model.hpp"

namespace slipway {
namespace {

constexpr const char* kIndex = "model.safetensors.index.json";

std::vector<std::byte> encode_values(TensorType type, std::span<const float> values) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(bytes_of(type, std::ssize(values))));
  encode(type, values, bytes);
  return bytes;
}

/// A file of these tensors; tensor number i holds i + 0, i + 1, ...
void write_shard(const std::filesystem::path& path, const std::vector<SafeTensor>& plan,
                 const std::map<std::string, std::string>& metadata = {{"format", "pt"}}) {
  write_safetensors(path, metadata, plan, [&](std::size_t i, const ByteSink& sink) {
    std::vector<float> values(static_cast<std::size_t>(plan[i].tensor.size()));
    for (std::size_t k = 0; k < values.size(); ++k) values[k] = static_cast<float>(i + k);
    sink(encode_values(tensor_type_of(plan[i].dtype), values));
  });
}

void write_index(const std::filesystem::path& folder, const Json& weight_map) {
  atomic_write_file(folder / kIndex, to_pretty({{"metadata", {{"total_size", 1}}}, {"weight_map", weight_map}}));
}

/// Two shards and their index: a and b in the first, c in the second.
struct Shards {
  ScratchFolder folder;
  Json map = {{"a", "s-1.safetensors"}, {"b", "s-1.safetensors"}, {"c", "s-2.safetensors"}};

  Shards() {
    write_shard(folder / "s-1.safetensors",
                {{.tensor = {"a", {2, 3}}, .dtype = DType::kF32}, {.tensor = {"b", {4}}, .dtype = DType::kBf16}});
    write_shard(folder / "s-2.safetensors", {{.tensor = {"c", {5}}, .dtype = DType::kF16}}, {{"from", "second"}});
  }
  void expect_refused(const std::string& substring) {
    write_index(folder.path(), map);
    expect_error(Fault::kStorage, substring, [&] { SafetensorsFolder{folder.path()}; });
  }
};

TEST(SafetensorsFolderTest, ShardsAreOneSetOfTensorsEachOfItsOwnType) {
  const Shards shards;
  write_index(shards.folder.path(), shards.map);
  const SafetensorsFolder folder(shards.folder.path());
  ASSERT_EQ(folder.tensors().size(), 3u);
  EXPECT_EQ(folder.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"from", "second"}}));
  std::vector<float> values(5);
  folder.read(folder.at("c"), values);
  EXPECT_EQ(values, (std::vector<float>{0, 1, 2, 3, 4}));
  EXPECT_EQ(folder.at("b").dtype, DType::kBf16);
  EXPECT_EQ(folder.bytes(folder.at("b")).size(), 8u);
  EXPECT_TRUE(folder.has("a") && !folder.has("d"));
  expect_error(Fault::kStorage, "the tensor d is missing", [&] { (void)folder.at("d"); });
}

TEST(SafetensorsFolderTest, TheSingleFileIsTakenWhereAnIndexLiesBesideIt) {
  const Shards shards;
  write_index(shards.folder.path(), {{"z", "not-there.safetensors"}});
  write_shard(shards.folder / "model.safetensors", {{.tensor = {"only", {1}}}});
  testing::internal::CaptureStderr();
  EXPECT_TRUE(SafetensorsFolder(shards.folder.path()).has("only"));
  const std::string output = testing::internal::GetCapturedStderr();
  EXPECT_NE(output.find("model.safetensors is read, as transformers does, and not the shards"), std::string::npos)
      << output;
}

TEST(SafetensorsFolderTest, WhatIndexAndShardsDisagreeAboutIsRefusedByName) {
  Shards shards;
  const Json good = shards.map;
  shards.map["c"] = "s-3.safetensors";
  shards.expect_refused("the shard s-3.safetensors is missing, one of the 2 that model.safetensors.index.json lists");
  shards.map = good, shards.map["d"] = "s-2.safetensors";
  shards.expect_refused("the tensor d is not in s-2.safetensors, where model.safetensors.index.json lists it");
  shards.map = good, shards.map["a"] = "s-2.safetensors";
  shards.expect_refused("the tensor a is not in s-2.safetensors");
  shards.map = good, shards.map.erase("b");
  shards.expect_refused("the tensor b of s-1.safetensors is not listed in model.safetensors.index.json");
  shards.map = good, shards.map["e"] = "s-3.safetensors";
  write_shard(shards.folder / "s-3.safetensors", {{.tensor = {"e", {1}}}, {.tensor = {"c", {5}}}});
  shards.expect_refused("the tensor c is in s-2.safetensors and in s-3.safetensors, expected in one of them");
}

TEST(SafetensorsFolderTest, AnIndexLeadsNowhereElse) {
  Shards shards;
  for (const char* outside : {"../s-2.safetensors", "/tmp/s-2.safetensors", "sub/s-2.safetensors", "..", ".", ""}) {
    shards.map["c"] = outside;
    shards.expect_refused("the tensor \"c\" would lie in \"" + std::string(outside) +
                          "\", expected the name of a file in the same folder");
  }
  shards.map["c"] = std::string("s-2.safetensors\0x", 17);
  shards.expect_refused("expected the name of a file in the same folder");
  shards.map["c"] = 5;
  shards.expect_refused("would lie in 5");
  shards.map = Json::array();
  shards.expect_refused("it has no weight_map of tensors and their files");
  shards.map = Json::object();
  shards.expect_refused("it has no weight_map");
  atomic_write_file(shards.folder / kIndex, "{");
  expect_error(Fault::kStorage, "not valid JSON", [&] { SafetensorsFolder{shards.folder.path()}; });
}

TEST(SafetensorsFolderTest, AFolderWithoutSafetensorsSaysWhatItNeeds) {
  const ScratchFolder folder;
  expect_error(Fault::kStorage, "neither model.safetensors nor model.safetensors.index.json is there; give a Hugging",
               [&] { SafetensorsFolder{folder.path()}; });
  atomic_write_file(folder / "consolidated.safetensors", "x");
  expect_error(Fault::kStorage, "consolidated.safetensors is there: rename a file that holds the whole model",
               [&] { SafetensorsFolder{folder.path()}; });
  atomic_write_file(folder / "model-00001-of-00002.safetensors", "x");
  expect_error(Fault::kStorage, "consolidated.safetensors and others are there: copy their index here",
               [&] { SafetensorsFolder{folder.path()}; });
  atomic_write_file(folder / "pytorch_model.bin", "x");
  expect_error(Fault::kStorage, "convert pytorch_model.bin with transformers",
               [&] { SafetensorsFolder{folder.path()}; });
  atomic_write_file(folder / "model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n");
  expect_error(Fault::kStorage, "this is a pointer of Git LFS", [&] { SafetensorsFolder{folder.path()}; });
}

TEST(SafetensorsFolderTest, OneTensorForEachPartOfTheModelAndATiedHeadIsTheEmbedding) {
  const ScratchFolder folder;
  const ModelSpec spec = test::tiny_spec("gpt2", true);
  atomic_write_file(folder / "config.json", hugging_face_config(spec, DType::kF32, 0, 0));
  std::vector<SafeTensor> plan;
  for (const FileTensor& tensor : to_file_tensors(spec, ModelFormat::kHuggingFace, tensors_of(spec)))
    plan.push_back({.tensor = tensor.stored});
  const auto open_with = [&](const SafeTensor& more) {
    std::vector<SafeTensor> all = plan;
    all.push_back(more);
    write_safetensors(folder / "model.safetensors", {}, all, [&](std::size_t i, const ByteSink& sink) {
      const std::size_t size = static_cast<std::size_t>(all[i].tensor.size());
      if (!all[i].other_dtype.empty()) return sink(std::vector<std::byte>(size));
      const std::vector<float> values(size, all[i].tensor.name == "lm_head.weight" ? 1.0f : 0.5f);
      sink(std::as_bytes(std::span(values)));
    });
    HuggingFaceModel{folder.path()};
  };
  const std::vector<std::int64_t> table = {spec.vocabulary, spec.width};
  EXPECT_NO_THROW(open_with({.tensor = {"transformer.h.0.attn.bias", {1, 1, 4, 4}}, .other_dtype = "BOOL"}));
  expect_error(Fault::kStorage, "transformer.wte.weight and wte.weight are the same part of the model", [&] {
    open_with({.tensor = {"wte.weight", table}});
  });
  expect_error(Fault::kStorage, "the tensor transformer.h.01.ln_1.weight has no place in a gpt2 model", [&] {
    open_with({.tensor = {"transformer.h.01.ln_1.weight", {spec.width}}});
  });
  expect_error(Fault::kStorage, "lm_head.weight is not transformer.wte.weight, although config.json ties them", [&] {
    open_with({.tensor = {"lm_head.weight", table}});
  });
  plan.front().other_dtype = "U8";
  expect_error(Fault::kStorage, "is stored as \"U8\", but Slipway reads F32, F16 and BF16", [&] {
    open_with({.tensor = {"transformer.h.0.attn.bias", {1, 1, 4, 4}}});
  });
}

TEST(SafetensorsFolderTest, AModelInShardsOfMixedTypesGivesItsValuesAndItsStoredBytes) {
  const ScratchFolder folder;
  const ModelSpec model = test::tiny_spec("qwen3", false);
  const test::RandomWeights weights(model, 6);
  const std::vector<TensorInfo> all_tensors = weights.tensors();
  const std::vector<FileTensor> stored_tensors = to_file_tensors(model, ModelFormat::kHuggingFace, all_tensors);
  constexpr DType kTypes[] = {DType::kBf16, DType::kF16, DType::kF32};
  const auto values_of = [](const TensorSource& source, const TensorInfo& tensor) {
    std::vector<float> values(static_cast<std::size_t>(tensor.size()));
    source.read(tensor.name, values);
    return values;
  };
  constexpr std::size_t kShards = 3;
  Json map = Json::object();
  for (std::size_t shard = 0; shard < kShards; ++shard) {
    std::vector<SafeTensor> plan;
    std::vector<std::size_t> tensor_indices;
    for (std::size_t i = shard; i < all_tensors.size(); i += kShards) {
      plan.push_back({.tensor = stored_tensors[i].stored, .dtype = kTypes[i / 2 % 3]});
      tensor_indices.push_back(i);
      map[plan.back().tensor.name] = join("s-", shard, ".safetensors");
    }
    write_safetensors(
        folder / join("s-", shard, ".safetensors"), {{"slipway.name", model.name}}, plan,
        [&](std::size_t i, const ByteSink& sink) {
          sink(encode_values(tensor_type_of(plan[i].dtype), values_of(weights, all_tensors[tensor_indices[i]])));
        });
  }
  write_index(folder.path(), map);
  atomic_write_file(folder / "config.json", hugging_face_config(model, DType::kBf16, -1, 0));

  const HuggingFaceModel reopened(folder.path());
  EXPECT_EQ(reopened.spec().name, model.name);
  for (std::size_t i = 0; i < all_tensors.size(); ++i) {
    const TensorType type = tensor_type_of(kTypes[i / 2 % 3]);
    const std::vector<std::byte> expected = encode_values(type, values_of(weights, all_tensors[i]));
    std::vector<float> values(static_cast<std::size_t>(all_tensors[i].size()));
    decode(type, expected, values);
    EXPECT_EQ(values_of(reopened, all_tensors[i]), values) << all_tensors[i].name;
    ASSERT_EQ(reopened.stored_type(all_tensors[i].name), type) << all_tensors[i].name;
    std::vector<std::byte> stored(expected.size());
    reopened.read_stored(all_tensors[i].name, stored);
    EXPECT_EQ(stored, expected) << all_tensors[i].name;
  }
  EXPECT_EQ(reopened.stored_type("blk.99.nothing"), TensorType::kF32);
}

}  // namespace
}  // namespace slipway
