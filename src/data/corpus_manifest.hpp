// The manifest of a data folder: the statistics of its shards, computed from the shards themselves, so that `data
// prepare` and `data verify` share one computation.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "io/data/token_shard.hpp"
#include "src/core/json.hpp"

namespace slipway {

inline constexpr char kManifestFile[] = "manifest.json";
inline constexpr char kManifestHashFile[] = "manifest.sha256";
inline constexpr char kCorpusTokenizerFile[] = "tokenizer.json";

/// Reads every token and gives the part of the manifest that follows from the shards: `corpus_sha256`, totals,
/// `splits` (counts, lanes, licences, entropies, and each shard with its hash).
///
/// `corpus_sha256` covers tokenizer, splits, lanes, licences, kinds of source, contents and tokens, in order. It does
/// not cover file names, nor the distribution of documents over shards. It does not depend on `threads`.
/// Errors   Fault::kData when a content is in both splits, and for a damaged shard.
Json summarize_shards(const std::string& tokenizer_sha256, std::span<const TokenShard> shards, int threads);

/// Throws Fault::kData: the problem with a file of a data folder, and that `data prepare` makes a new one.
[[noreturn]] void refuse_data(const std::filesystem::path& file, const std::string& message);

/// Reads and checks `manifest.json` against `manifest.sha256`, schema and version. Errors: Fault::kData.
Json read_corpus_manifest(const std::filesystem::path& folder);

/// Writes both files. Returns the manifest with its schema. Errors: Fault::kStorage.
Json write_manifest(const std::filesystem::path& folder, const Json& manifest);

}  // namespace slipway
