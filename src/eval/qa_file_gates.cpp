// Gates that only read the model's file: tokenizer, keys, weights.
#include <algorithm>
#include <cmath>

#include "io/model/tensor_layout.hpp"
#include "src/data/unicode.hpp"
#include "src/eval/qa_gates.hpp"
#include "src/model/model_tensors.hpp"

namespace slipway::qa {
namespace {

/// Texts that tokenizers often fail to reproduce: every byte, invalid UTF-8, NUL, joiners, marks, jamo, private use,
/// long runs.
std::vector<std::string> edge_case_texts() {
  std::string bytes;
  for (int b = 0; b < 256; ++b) bytes += static_cast<char>(b);
  return {"", "Hello, world!\n\tdef f(x):\r\n        return x  # 1,234.5\n", bytes, std::string("a\0b", 3),
          "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7",  // a family: three emoji and two
                                                                                       // joiners
          "e\xcc\x81 \xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab \xed\x95\x9c \xee\x80\x80",  // a mark, jamo, a syllable,
                                                                                       // private use
          "\xc3\x28 \xe2\x82 \xed\xa0\x80 \xf8\x88\x80\x80\x80 \xff\xfe",              // invalid UTF-8
          std::string(300, ' ') + std::string(300, 'a') + std::string(300, '\n'), "<|endoftext|> as plain text"};
}

/// For a character tokenizer, which encodes no other characters: all its characters, forwards and backwards.
std::vector<std::string> character_texts(const Tokenizer& tokenizer) {
  const Tokenizer::Parts& parts = tokenizer.parts();
  std::string forwards, backwards;
  for (std::size_t id = 0; id < parts.tokens.size(); ++id) {
    if (std::ranges::find(parts.special_tokens, static_cast<int>(id)) != parts.special_tokens.end()) continue;
    forwards += parts.tokens[id];
    backwards = parts.tokens[id] + backwards;
  }
  return {"", forwards, backwards};
}

Measurement measure_round_trip(const Tokenizer& tokenizer) {
  int failures = 0, count = 0;
  std::string first_failure;
  const bool is_character_tokenizer = tokenizer.parts().pre == PreTokenizer::kChar;
  for (const std::string& text : is_character_tokenizer ? character_texts(tokenizer) : edge_case_texts()) {
    ++count;
    const std::string expected = tokenizer.parts().nfc ? to_nfc(text) : text;
    try {
      if (tokenizer.decode(tokenizer.encode(text)) == expected) continue;
    } catch (const Error& error) {
      if (first_failure.empty()) first_failure = error.what();
    }
    ++failures;
    if (first_failure.empty()) first_failure = join("text ", count, " of ", text.size(), " bytes came back changed");
  }
  return {static_cast<double>(failures),
          failures == 0 ? join("all ", count, " came back") : first_failure,
          {{"texts", count}}};
}

Measurement measure_specials(const Tokenizer& tokenizer) {
  std::vector<std::string> problems;
  const auto check = [&](const char* what, std::optional<int> id) {
    if (id && (*id < 0 || *id >= tokenizer.vocabulary_size()))
      problems.push_back(join(what, " is id ", *id, ", outside the vocabulary of ", tokenizer.vocabulary_size()));
  };
  check("BOS", tokenizer.bos());
  check("EOS", tokenizer.eos());
  if (tokenizer.add_bos() && !tokenizer.bos()) problems.emplace_back("add_bos is set, but there is no BOS");
  return {static_cast<double>(problems.size()),
          !problems.empty() ? problems.front()
          : tokenizer.eos() ? "the end token is known"
                            : "there is no end token: generation ends by count alone",
          {{"bos", tokenizer.bos() ? Json(*tokenizer.bos()) : Json()},
           {"eos", tokenizer.eos() ? Json(*tokenizer.eos()) : Json()},
           {"add_bos", tokenizer.add_bos()}}};
}

Measurement measure_vocabulary(const ModelBundle& bundle) {
  const std::vector<TensorInfo> tensors = bundle.source->tensors();
  const auto embedding =
      std::find_if(tensors.begin(), tensors.end(), [](const TensorInfo& t) { return t.name == "token_embd.weight"; });
  const std::int64_t rows = embedding == tensors.end() ? 0 : embedding->rows(),
                     tokens = bundle.tokenizer->vocabulary_size();
  const std::int64_t without_row = std::max<std::int64_t>(0, tokens - rows),  // more rows than tokens are padding
      difference = std::max(without_row, std::abs(std::int64_t{bundle.spec.vocabulary} - rows));
  return {static_cast<double>(difference),
          join("tokenizer ", tokens, ", embedding ", rows, ", description ", bundle.spec.vocabulary),
          {{"tokenizer", tokens}, {"embedding_rows", rows}, {"description", bundle.spec.vocabulary}}};
}

Measurement measure_metadata(const ModelSpec& model) {
  std::vector<std::string> missing;
  const auto require_key = [&](const char* key, bool present) {
    if (!present) missing.emplace_back(key);
  };
  require_key("architecture", !model.architecture.empty());
  require_key("name", !model.name.empty());
  for (const auto& [key, value] : {std::pair{"layers", model.layers},
                                   {"width", model.width},
                                   {"heads", model.heads},
                                   {"kv_heads", model.kv_heads},
                                   {"head_width", model.head_width},
                                   {"ffn", model.ffn},
                                   {"vocabulary", model.vocabulary},
                                   {"context", model.context}})
    require_key(key, value > 0);
  std::string explanation = "every key is there";
  for (const std::string& key : missing)
    explanation = (&key == &missing.front() ? "missing: " : explanation + ", ") + key;
  if (missing.empty()) {
    try {
      model.check("the description", Fault::kConfig);
    } catch (const Error& error) {
      missing.emplace_back("sizes that fit");
      explanation = error.what();
    }
  }
  return {
      static_cast<double>(missing.size()), explanation, {{"architecture", model.architecture}, {"name", model.name}}};
}

/// Counts which of license and corpus a model does not record.
Measurement measure_provenance(const ModelBundle& bundle) {
  const auto& provenance = bundle.spec.provenance;
  std::vector<std::string> missing;
  if (!provenance.contains("license")) missing.emplace_back("license");
  if (!provenance.contains("corpus_sha256") && !bundle.info.data.contains("corpus_sha256"))
    missing.emplace_back("corpus_sha256");
  std::string explanation = "license and corpus are named";
  for (const std::string& key : missing)
    explanation = (&key == &missing.front() ? "not written down: " : explanation + ", ") + key;
  if (const Json unlicensed = bundle.info.data.value("unlicensed_documents", Json(0)); unlicensed != 0)
    explanation += join(" (", unlicensed, unlicensed == 1 ? " document names none" : " documents name none",
                        "; give rows a field license, or prepare with --license SPDX)");
  return {static_cast<double>(missing.size()), explanation, Json(provenance)};
}

std::string shape_text(const TensorInfo& tensor) {
  std::string text;
  for (const std::int64_t extent : tensor.shape) text += join(text.empty() ? "" : " x ", extent);
  return text;
}

Measurement measure_shapes(const ModelBundle& bundle) {
  const std::vector<TensorInfo> expected = tensors_of(bundle.spec), actual = bundle.source->tensors();
  const auto find_tensor = [](const std::vector<TensorInfo>& tensors, const std::string& tensor_name) {
    return std::find_if(tensors.begin(), tensors.end(), [&](const TensorInfo& t) { return t.name == tensor_name; });
  };
  std::vector<std::string> mismatches;
  for (const TensorInfo& tensor : expected) {
    const auto match = find_tensor(actual, tensor.name);
    if (match == actual.end()) mismatches.push_back(tensor.name + " is missing");
    else if (match->shape != tensor.shape)
      mismatches.push_back(join(tensor.name, " is ", shape_text(*match), ", configured is ", shape_text(tensor)));
  }
  for (const TensorInfo& tensor : actual)
    if (find_tensor(expected, tensor.name) == expected.end())
      mismatches.push_back(tensor.name + " belongs to no such model");
  return {static_cast<double>(mismatches.size()),
          mismatches.empty() ? join("all ", expected.size(), " as configured") : mismatches.front(),
          {{"tensors", actual.size()}}};
}

/// Statistics from one pass over all weights.
struct WeightStatistics {
  std::int64_t values = 0, tensors = 0, non_finite = 0;
  std::string first_non_finite;
  std::vector<std::string> zero_tensors;  // without biases, which may be all zero
};

WeightStatistics scan_weights(const TensorSource& source) {
  WeightStatistics result;
  std::vector<float> values;
  for (const TensorInfo& tensor : source.tensors()) {
    values.resize(static_cast<std::size_t>(tensor.size()));
    source.read(tensor.name, values);
    bool any_nonzero = false;
    for (std::size_t i = 0; i < values.size(); ++i) {
      any_nonzero = any_nonzero || values[i] != 0.0f;
      if (std::isfinite(values[i])) continue;
      if (result.non_finite++ == 0)
        result.first_non_finite =
            join(tensor.name, " holds ", values[i], " at row ", static_cast<std::int64_t>(i) / tensor.cols(),
                 ", column ", static_cast<std::int64_t>(i) % tensor.cols());
    }
    if (!any_nonzero && !tensor.name.ends_with(".bias")) result.zero_tensors.push_back(tensor.name);
    result.values += tensor.size();
    ++result.tensors;
  }
  return result;
}

}  // namespace

void judge_tokenizer(Gates& gates, const ModelBundle& bundle) {
  gates.judge("tokenizer_round_trip", Compare::kAtMost, "texts x with decode(encode(x)) != x",
              [&] { return measure_round_trip(*bundle.tokenizer); });
  gates.judge("tokenizer_specials", Compare::kAtMost, "special tokens missing or out of range",
              [&] { return measure_specials(*bundle.tokenizer); });
  gates.judge("vocabulary_match", Compare::kAtMost,
              "tokens without a row of the embedding, or distance between its rows and the description",
              [&] { return measure_vocabulary(bundle); });
}

void judge_metadata(Gates& gates, const ModelBundle& bundle) {
  const ModelSpec& model = bundle.spec;
  const auto measure_value = [](double value) { return [value] { return Measurement{value, join("is ", value)}; }; };
  gates.judge("metadata_complete", Compare::kAtMost, "architecture keys missing or at odds",
              [&] { return measure_metadata(model); });
  if (model.learned_positions) gates.not_applicable("rope_base", "its positions are learned");
  else gates.judge("rope_base", Compare::kWithin, "rope_base", measure_value(model.rope_base));
  gates.judge("norm_eps", Compare::kWithin, "norm_eps", measure_value(model.norm_eps));
  gates.judge("context_length", Compare::kWithin, "context", measure_value(model.context));
  gates.judge("provenance", Compare::kAtMost, "of license and corpus_sha256, how many are not written down",
              [&] { return measure_provenance(bundle); });
}

void judge_tensors(Gates& gates, const ModelBundle& bundle) {
  WeightStatistics statistics;
  gates.judge("tensor_shapes", Compare::kAtMost, "tensors missing, extra or misshapen",
              [&] { return measure_shapes(bundle); });
  gates.judge("tensors_finite", Compare::kAtMost, "weights that are NaN or Inf", [&]() -> Measurement {
    statistics = scan_weights(*bundle.source);
    return {static_cast<double>(statistics.non_finite),
            statistics.non_finite == 0 ? join("all ", statistics.values, " are finite") : statistics.first_non_finite,
            {{"values", statistics.values}}};
  });
  gates.judge("tensors_nonzero", Compare::kAtMost, "matrices and gains of zeros alone", [&]() -> Measurement {
    return {static_cast<double>(statistics.zero_tensors.size()),
            statistics.zero_tensors.empty() ? join("none of ", statistics.tensors)
                                            : statistics.zero_tensors.front() + " is all zero",
            {{"tensors", statistics.tensors}}};
  });
}

}  // namespace slipway::qa
