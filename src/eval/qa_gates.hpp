// The gates of qa, grouped by what they read. Only qa.cpp and tests include this.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "src/eval/gate.hpp"
#include "src/eval/qa.hpp"
#include "src/infer/loaded_model.hpp"
#include "src/infer/sampler.hpp"

namespace slipway::qa {

/// tokenizer_round_trip, tokenizer_specials, vocabulary_match
void judge_tokenizer(Gates& gates, const ModelBundle& bundle);
/// metadata_complete, rope_base, norm_eps, context_length, provenance
void judge_metadata(Gates& gates, const ModelBundle& bundle);
/// tensor_shapes, tensors_finite, tensors_nonzero. Cost: reads every weight once.
void judge_tensors(Gates& gates, const ModelBundle& bundle);
/// logits_finite, determinism, incremental_decoding
void judge_decoding(Gates& gates, LoadedModel& model);
/// export_ids, export_logits
void judge_export(Gates& gates, LoadedModel& model, const QaOptions& options);
/// loss_at_init, loss_below_uniform, loss_below_unigram, golden_output
void judge_learning(Gates& gates, LoadedModel& model, const QaOptions& options);

/// Signs of gibberish in a text: bytes that are mostly not ASCII, a fragment of 4 bytes or more three times in a row,
/// more than one U+FFFD in 32 bytes, one character that makes up nine tenths of the text.
std::vector<std::string> gibberish_signals(std::string_view text);

/// Decodes `count` tokens after `prompt` greedily; EOS does not stop it.
std::vector<int> greedy_ids(Model& model, std::span<const int> prompt, int count, TokenMask allowed = {});

}  // namespace slipway::qa
