// Any damage to the bytes of a checkpoint is detected and named, and never causes a crash.
#include <gtest/gtest.h>

#include <fstream>

#include "src/core/file.hpp"
#include "src/core/hash.hpp"
#include "tests/support/checkpoint_state.hpp"
#include "tests/support/core_files.hpp"

namespace slipway {
namespace {

namespace fs = std::filesystem;

void overwrite(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

/// Gives the manifest another text and the hash that fits it.
void forge_manifest(const fs::path& folder, const std::string& text) {
  overwrite(folder / kManifestName, text);
  overwrite(folder / kManifestHashName, sha256_hex(text) + "  manifest.json\n");
}

/// Opens and verifies, as `checkpoint verify` does.
void verify(const fs::path& folder) { CheckpointReader(folder).verify_all(); }

TEST(CheckpointDamage, EveryFlippedByteOfEveryFileIsFound) {
  constexpr std::size_t kZeroStride =
      11;  // long runs of zeros inside HDF5 are sampled; all else is flipped byte by byte
  const ScratchFolder scratch;
  const fs::path folder = save(scratch.path(), make_small_info(7), shard_state(make_small_state(), 2, 1, 3));
  verify(folder);
  for (const auto& entry : fs::directory_iterator(folder)) {
    const fs::path path = entry.path();
    const std::string good = read_file(path, Fault::kStorage);
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    for (std::size_t i = 0; i < good.size(); i += good[i] == 0 ? kZeroStride : 1) {
      const auto write_byte = [&](char byte) {
        file.seekp(static_cast<std::streamoff>(i));
        file.put(byte);
        file.flush();
      };
      write_byte(static_cast<char>(good[i] ^ (1 << (i % 8))));
      try {
        verify(folder);
        FAIL() << path << " byte " << i << " flipped and not noticed";
      } catch (const Error& error) {
        ASSERT_EQ(error.fault(), Fault::kStorage) << error.what();
        ASSERT_NE(std::string(error.what()).find(path.filename()), std::string::npos)
            << path << " byte " << i << ": " << error.what();
      }
      write_byte(good[i]);
    }
  }
  verify(folder);
}

TEST(CheckpointDamage, LoadingATensorNoticesAFlippedByteInIt) {
  const ScratchFolder scratch;
  const fs::path folder = save(scratch.path(), make_small_info(7), shard_state(make_small_state(), 1, 1, 3));
  CheckpointReader undamaged(folder);
  const StoredSlice& slice = undamaged.find("blk.0.ffn_down.weight", "adam_v")->slices.at(0);
  const fs::path file = folder / undamaged.manifest().files[static_cast<std::size_t>(slice.file)].name;
  std::string bytes = read_file(file, Fault::kStorage);
  bytes[slice.byte_offset + 5] ^= 1;
  overwrite(file, bytes);

  CheckpointReader reader(folder);
  EXPECT_NO_THROW(reader.read_tensor("blk.0.ffn_down.weight", "value"));
  expect_error(Fault::kStorage, "adam_v of blk.0.ffn_down.weight does not have the hash",
               [&] { reader.read_tensor("blk.0.ffn_down.weight", "adam_v"); });
  expect_error(Fault::kStorage, "adam_v of blk.0.ffn_down.weight", [&] { reader.verify_all(); });

  std::vector<ReadRequest> wanted;  // every tensor at once, as a resumed run reads them
  std::vector<std::vector<float>> numbers;
  for (const StoredTensor& tensor : reader.tensors()) {
    const Slice tensor_slice = full_slice(tensor.name, tensor.kind, tensor.shape);
    numbers.emplace_back(static_cast<std::size_t>(tensor_slice.size()));
    wanted.push_back({tensor_slice, numbers.back().data(), tensor_slice.extent[1]});
  }
  CheckpointReader second_reader(folder);
  expect_error(Fault::kStorage, "adam_v of blk.0.ffn_down.weight does not have the hash",
               [&] { second_reader.read_all(wanted); });
  std::erase_if(wanted, [](const ReadRequest& wanted_slice) { return wanted_slice.slice.kind == "adam_v"; });
  second_reader.read_all(wanted);
  for (const ReadRequest& wanted_slice : wanted)
    EXPECT_EQ(second_reader.read_tensor(wanted_slice.slice.tensor, wanted_slice.slice.kind),
              std::vector(wanted_slice.out, wanted_slice.out + wanted_slice.slice.size()));
}

TEST(CheckpointDamage, TruncatedMissingAndExtraFilesAreNamed) {
  const ScratchFolder scratch;
  const auto save_fresh = [&] {
    fs::remove_all(scratch / "c");
    return save(scratch / "c", make_small_info(7), shard_state(make_small_state(), 2, 1, 3));
  };
  fs::path folder = save_fresh();
  fs::resize_file(folder / "rank-1.7-1a2b3c4d.h5", 1000);
  expect_error(Fault::kStorage, "rank-1.7-1a2b3c4d.h5 has 1000 bytes, expected ", [&] { verify(folder); });
  folder = save_fresh();
  fs::remove(folder / "rank-0.7-1a2b3c4d.h5");
  expect_error(Fault::kStorage, "lacks rank-0.7-1a2b3c4d.h5", [&] { verify(folder); });
  expect_error(Fault::kStorage, "rank-0.7-1a2b3c4d.h5: No such file",
               [&] { CheckpointReader(folder).read_tensor("embedding.weight"); });
  folder = save_fresh();
  overwrite(folder / "notes.txt", "hello");
  expect_error(Fault::kStorage, "holds notes.txt, which its manifest does not list", [&] { verify(folder); });
  for (const char* name : {kManifestName, kManifestHashName, kIndexName}) {
    folder = save_fresh();
    fs::remove(folder / name);
    expect_error(Fault::kStorage, name, [&] { verify(folder); });
  }
  expect_error(Fault::kStorage, "not a whole Slipway checkpoint", [&] { verify(scratch.path()); });
  expect_error(Fault::kStorage, "no such folder", [&] { verify(scratch / "nowhere"); });
}

TEST(CheckpointDamage, AManifestThatIsNotOursIsAStorageErrorAndNeverABug) {
  const ScratchFolder scratch;
  const fs::path folder = save(scratch.path(), make_small_info(7), shard_state(make_small_state(), 1, 1, 3));
  const std::string text = read_file(folder / kManifestName, Fault::kStorage);
  const Json good = Json::parse(text);
  const auto expect_refused = [&](const char* substring, const std::function<void(Json&)>& modify) {
    Json json = good;
    modify(json);
    forge_manifest(folder, json.dump());
    expect_error(Fault::kStorage, substring, [&] { verify(folder); });
  };
  expect_refused("format version 2 and this program reads up to 1: use a newer Slipway",
                 [](Json& json) { json["schema_version"] = 2; });
  expect_refused("foreign", [](Json& json) { json["schema"] = "another"; });
  expect_refused("foreign", [](Json& json) { json = {1, 2}; });
  expect_refused("unknown type f64", [](Json& json) { json["tensors"][0]["dtype"] = "f64"; });
  expect_refused("leave a gap", [](Json& json) {
    json["tensors"][0]["shape"][0] = 8;
    json["tensors"][0]["slices"][0]["extent"][1] = 7;
  });
  expect_refused("leave the tensor", [](Json& json) {
    json["tensors"][0]["slices"][0]["offset"] = {INT64_MAX, INT64_MAX};
  });
  expect_refused("leave the tensor", [](Json& json) { json["tensors"][0]["slices"][0]["extent"] = {-1, -7}; });
  expect_refused("impossible shape", [](Json& json) { json["tensors"][0]["shape"] = {INT64_MAX}; });
  expect_refused("axes", [](Json& json) { json["tensors"][0]["shape"] = {1, 1, 7}; });
  expect_refused("beyond the end", [](Json& json) { json["tensors"][0]["slices"][0]["byte"] = UINT64_MAX; });
  expect_refused("not listed", [](Json& json) { json["tensors"][0]["slices"][0]["file"] = 9; });
  expect_refused("too large", [](Json& json) { json["tensors"][0]["slices"][0]["file"] = std::int64_t{1} << 32; });
  expect_refused("below zero", [](Json& json) { json["step"] = -1; });
  expect_refused("leaves the folder", [](Json& json) { json["files"][0]["name"] = "../other.h5"; });
  for (const auto& [key, value] : good.items())
    if (key != "schema" && key != "written_utc") expect_refused("", [k = key](Json& json) { json.erase(k); });
  for (const char* key : {"step", "tensors", "files", "layout", "tokenizer"})
    expect_refused("", [key](Json& json) { json[key] = {{"x", true}}; });
  forge_manifest(folder, text.substr(0, text.size() / 2));
  expect_error(Fault::kStorage, "not valid JSON", [&] { verify(folder); });
}

TEST(CheckpointDamage, SlicesOutOfOrderAreRefusedSinceTheyCouldHideAnOverlap) {
  const ScratchFolder scratch;
  const fs::path folder = save(scratch.path(), make_small_info(7), shard_state(make_small_state(), 3, 1, 3));
  Json json = Json::parse(read_file(folder / kManifestName, Fault::kStorage));
  bool swapped = false;
  for (Json& tensor : json["tensors"])
    if (!swapped && tensor["slices"].size() > 1)
      std::swap(tensor["slices"].front(), tensor["slices"].back()), swapped = true;
  ASSERT_TRUE(swapped);
  forge_manifest(folder, json.dump());
  expect_error(Fault::kStorage, "are not in the order of their places", [&] { verify(folder); });
}

TEST(CheckpointDamage, TheErrorNamesTheNewestGoodCheckpointOfTheRun) {
  const ScratchFolder scratch;
  const auto ranks = shard_state(make_small_state(), 1, 1, 3);
  for (const std::int64_t step : {5, 10, 15, 20}) save(scratch.path(), make_small_info(step), ranks);
  fs::resize_file(scratch.path() / "step-00000015" / kIndexName, 10);
  const fs::path newest = scratch.path() / "step-00000020";
  std::string bytes = read_file(newest / "rank-0.20-1a2b3c4d.h5", Fault::kStorage);
  for (char& byte : bytes) byte ^= 4;
  overwrite(newest / "rank-0.20-1a2b3c4d.h5", bytes);
  expect_error(Fault::kStorage, "the newest good checkpoint is step 10: choose it with --checkpoint 10",
               [&] { CheckpointReader(find_checkpoint(scratch.path()).folder).read_tensor("embedding.weight"); });
}

TEST(CheckpointDamage, AnotherModelsTensorsAreRefused) {
  const ScratchFolder scratch;
  CheckpointReader reader(save(scratch.path(), make_small_info(1), shard_state(make_small_state(), 1, 1, 3)));
  float number = 0;
  expect_error(Fault::kStorage, "has no value of head.weight",
               [&] { reader.read(full_slice("head.weight", "value", {3}), &number, 1); });
  expect_error(Fault::kStorage, "has embedding.weight as [11,6], wanted is [12,6]", [&] {
    reader.read(full_slice("embedding.weight", "value", {12, 6}), &number, 1);
  });
}

}  // namespace
}  // namespace slipway
