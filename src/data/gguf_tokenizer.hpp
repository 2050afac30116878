// A tokenizer as the `tokenizer.ggml.*` keys of a GGUF, both ways (docs/formats/gguf.md).
#pragma once

#include "io/model/gguf_metadata.hpp"
#include "src/data/tokenizer.hpp"

namespace slipway {

/// Adds every key that llama.cpp needs to give the same ids, without relying on defaults. If the embedding has more
/// `rows` than there are tokens, unused tokens `[PADi]` are added, as by llama.cpp's converter. Errors: Fault::kConfig
/// for a character tokenizer, which GGUF cannot hold.
void add_tokenizer(GgufMetadata& metadata, const Tokenizer::Parts& parts, int rows = 0);

/// The parts that a GGUF of ours, or of llama.cpp's converter, holds, without the padding at the end.
/// Errors   Fault::kStorage for keys that are missing or contradict each other, and for tokenizers that we do not have.
Tokenizer::Parts tokenizer_parts(const GgufMetadata& metadata);

/// The tokenizer itself. Errors: as tokenizer_parts.
Tokenizer tokenizer_of(const GgufMetadata& metadata);

}  // namespace slipway
