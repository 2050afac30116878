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
  const fs::path folder = save(scratch.path(), small_info(7), divide(small_state(), 2, 1, 3));
  verify(folder);
  for (const auto& entry : fs::directory_iterator(folder)) {
    const fs::path path = entry.path();
    const std::string good = read_file(path, Fault::kStorage);
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    for (std::size_t i = 0; i < good.size(); i += good[i] == 0 ? kZeroStride : 1) {
      const auto put = [&](char byte) {
        file.seekp(static_cast<std::streamoff>(i));
        file.put(byte);
        file.flush();
      };
      put(static_cast<char>(good[i] ^ (1 << (i % 8))));
      try {
        verify(folder);
        FAIL() << path << " byte " << i << " flipped and not noticed";
      } catch (const Error& error) {
        ASSERT_EQ(error.fault(), Fault::kStorage) << error.what();
        ASSERT_NE(std::string(error.what()).find(path.filename()), std::string::npos)
            << path << " byte " << i << ": " << error.what();
      }
      put(good[i]);
    }
  }
  verify(folder);
}

TEST(CheckpointDamage, LoadingATensorNoticesAFlippedByteInIt) {
  const ScratchFolder scratch;
  const fs::path folder = save(scratch.path(), small_info(7), divide(small_state(), 1, 1, 3));
  CheckpointReader before(folder);
  const StoredSlice& slice = before.find("blk.0.ffn_down.weight", "adam_v")->slices.at(0);
  const fs::path file = folder / before.manifest().files[static_cast<std::size_t>(slice.file)].name;
  std::string bytes = read_file(file, Fault::kStorage);
  bytes[slice.byte + 5] ^= 1;
  overwrite(file, bytes);

  CheckpointReader reader(folder);
  EXPECT_NO_THROW(reader.read_whole("blk.0.ffn_down.weight", "value"));
  expect_error(Fault::kStorage, "adam_v of blk.0.ffn_down.weight does not have the hash",
               [&] { reader.read_whole("blk.0.ffn_down.weight", "adam_v"); });
  expect_error(Fault::kStorage, "adam_v of blk.0.ffn_down.weight", [&] { reader.verify_all(); });

  std::vector<WantedSlice> wanted;  // every tensor at once, as a resumed run reads them
  std::vector<std::vector<float>> numbers;
  for (const StoredTensor& tensor : reader.tensors()) {
    const Slice all = whole(tensor.name, tensor.kind, tensor.shape);
    numbers.emplace_back(static_cast<std::size_t>(all.size()));
    wanted.push_back({all, numbers.back().data(), all.extent[1]});
  }
  CheckpointReader again(folder);
  expect_error(Fault::kStorage, "adam_v of blk.0.ffn_down.weight does not have the hash",
               [&] { again.read_all(wanted); });
  std::erase_if(wanted, [](const WantedSlice& one) { return one.slice.kind == "adam_v"; });
  again.read_all(wanted);
  for (const WantedSlice& one : wanted)
    EXPECT_EQ(again.read_whole(one.slice.tensor, one.slice.kind), std::vector(one.out, one.out + one.slice.size()));
}

TEST(CheckpointDamage, TruncatedMissingAndExtraFilesAreNamed) {
  const ScratchFolder scratch;
  const auto fresh = [&] {
    fs::remove_all(scratch / "c");
    return save(scratch / "c", small_info(7), divide(small_state(), 2, 1, 3));
  };
  fs::path folder = fresh();
  fs::resize_file(folder / "rank-1.7-1a2b3c4d.h5", 1000);
  expect_error(Fault::kStorage, "rank-1.7-1a2b3c4d.h5 has 1000 bytes, expected ", [&] { verify(folder); });
  folder = fresh();
  fs::remove(folder / "rank-0.7-1a2b3c4d.h5");
  expect_error(Fault::kStorage, "lacks rank-0.7-1a2b3c4d.h5", [&] { verify(folder); });
  expect_error(Fault::kStorage, "rank-0.7-1a2b3c4d.h5: No such file",
               [&] { CheckpointReader(folder).read_whole("embedding.weight"); });
  folder = fresh();
  overwrite(folder / "notes.txt", "hello");
  expect_error(Fault::kStorage, "holds notes.txt, which its manifest does not list", [&] { verify(folder); });
  for (const char* name : {kManifestName, kManifestHashName, kIndexName}) {
    folder = fresh();
    fs::remove(folder / name);
    expect_error(Fault::kStorage, name, [&] { verify(folder); });
  }
  expect_error(Fault::kStorage, "not a whole Slipway checkpoint", [&] { verify(scratch.path()); });
  expect_error(Fault::kStorage, "no such folder", [&] { verify(scratch / "nowhere"); });
}

TEST(CheckpointDamage, AManifestThatIsNotOursIsAStorageErrorAndNeverABug) {
  const ScratchFolder scratch;
  const fs::path folder = save(scratch.path(), small_info(7), divide(small_state(), 1, 1, 3));
  const std::string text = read_file(folder / kManifestName, Fault::kStorage);
  const Json good = Json::parse(text);
  const auto refused = [&](const char* words, const std::function<void(Json&)>& change) {
    Json json = good;
    change(json);
    forge_manifest(folder, json.dump());
    expect_error(Fault::kStorage, words, [&] { verify(folder); });
  };
  refused("format version 2 and this program reads up to 1: use a newer Slipway",
          [](Json& json) { json["schema_version"] = 2; });
  refused("foreign", [](Json& json) { json["schema"] = "another"; });
  refused("foreign", [](Json& json) { json = {1, 2}; });
  refused("unknown type f64", [](Json& json) { json["tensors"][0]["dtype"] = "f64"; });
  refused("leave a gap", [](Json& json) {
    json["tensors"][0]["shape"][0] = 8;
    json["tensors"][0]["slices"][0]["extent"][1] = 7;
  });
  refused("leave the tensor", [](Json& json) { json["tensors"][0]["slices"][0]["offset"] = {INT64_MAX, INT64_MAX}; });
  refused("leave the tensor", [](Json& json) { json["tensors"][0]["slices"][0]["extent"] = {-1, -7}; });
  refused("impossible shape", [](Json& json) { json["tensors"][0]["shape"] = {INT64_MAX}; });
  refused("axes", [](Json& json) { json["tensors"][0]["shape"] = {1, 1, 7}; });
  refused("beyond the end", [](Json& json) { json["tensors"][0]["slices"][0]["byte"] = UINT64_MAX; });
  refused("not listed", [](Json& json) { json["tensors"][0]["slices"][0]["file"] = 9; });
  refused("too large", [](Json& json) { json["tensors"][0]["slices"][0]["file"] = std::int64_t{1} << 32; });
  refused("below zero", [](Json& json) { json["step"] = -1; });
  refused("leaves the folder", [](Json& json) { json["files"][0]["name"] = "../other.h5"; });
  for (const auto& [key, value] : good.items())
    if (key != "schema" && key != "written_utc") refused("", [k = key](Json& json) { json.erase(k); });
  for (const char* key : {"step", "tensors", "files", "layout", "tokenizer"})
    refused("", [key](Json& json) { json[key] = {{"x", true}}; });
  forge_manifest(folder, text.substr(0, text.size() / 2));
  expect_error(Fault::kStorage, "not valid JSON", [&] { verify(folder); });
}

TEST(CheckpointDamage, SlicesOutOfOrderAreRefusedSinceTheyCouldHideAnOverlap) {
  const ScratchFolder scratch;
  const fs::path folder = save(scratch.path(), small_info(7), divide(small_state(), 3, 1, 3));
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
  const auto ranks = divide(small_state(), 1, 1, 3);
  for (const std::int64_t step : {5, 10, 15, 20}) save(scratch.path(), small_info(step), ranks);
  fs::resize_file(scratch.path() / "step-00000015" / kIndexName, 10);
  const fs::path newest = scratch.path() / "step-00000020";
  std::string bytes = read_file(newest / "rank-0.20-1a2b3c4d.h5", Fault::kStorage);
  for (char& byte : bytes) byte ^= 4;
  overwrite(newest / "rank-0.20-1a2b3c4d.h5", bytes);
  expect_error(Fault::kStorage, "the newest good checkpoint is step 10: choose it with --checkpoint 10",
               [&] { CheckpointReader(find_checkpoint(scratch.path()).folder).read_whole("embedding.weight"); });
}

TEST(CheckpointDamage, AnotherModelsTensorsAreRefused) {
  const ScratchFolder scratch;
  CheckpointReader reader(save(scratch.path(), small_info(1), divide(small_state(), 1, 1, 3)));
  float number = 0;
  expect_error(Fault::kStorage, "has no value of head.weight",
               [&] { reader.read(whole("head.weight", "value", {3}), &number, 1); });
  expect_error(Fault::kStorage, "has embedding.weight as [11,6], wanted is [12,6]", [&] {
    reader.read(whole("embedding.weight", "value", {12, 6}), &number, 1);
  });
}

}  // namespace
}  // namespace slipway
