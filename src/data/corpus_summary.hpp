// A summary of a data folder for people: document lengths and bytes per token by split and lane, and sample texts.
#pragma once

#include <cstdint>

#include "src/core/json.hpp"
#include "src/data/corpus.hpp"

namespace slipway {

/// By split and lane: {"train": {"text": {"documents", "tokens", "bytes", "bytes_per_token", "least", "median", "mean",
/// "p95", "most", "histogram": [{"from", "to", "documents"}]}}}. Lengths are in tokens, BOS and EOS included; a bar of
/// the histogram doubles the one before it. Cost: reads the document tables, not the tokens.
Json summarize_lengths(const Corpus& corpus);

/// The first `rows` documents of each split, all splits in order: [{"lane", "split", "document", "tokens", "origin",
/// "line", "license", "segments": [{"text", "role", "loss"}]}]. A text is decoded from its tokens, without the BOS and
/// EOS that `data prepare` put around it.
Json sample_rows(const Corpus& corpus, std::int64_t rows);

}  // namespace slipway
