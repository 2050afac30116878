// Reads and writes our file formats for the scripts of tests/interop, without the rest of the program.
//
//   format_probe encode TYPE IN.f32 OUT        decode TYPE IN OUT.f32
//   format_probe metadata OUT.gguf             npy OUT.npy
//   format_probe curves FOLDER FIRST LAST      scalars of steps FIRST to LAST
//   format_probe model ARCH[+linear|+llama3] tied|untied SEED TYPE OUT.gguf|FOLDER
//   format_probe added SEED OUT.gguf|FOLDER    a llama with added tokens of every kind and a padded embedding
//   format_probe ids IN.gguf|FOLDER TEXT plain|special
//   format_probe tokens FOLDER                 what begins and ends texts: {"bos", "add_bos", "ends", "chat_template"}
//   format_probe reread IN.gguf|FOLDER OUT [TYPE]   a model of anybody's, exported again in TYPE (f32) or as stored
#include <cstring>
#include <iostream>
#include <optional>

#include "io/data/npy.hpp"
#include "io/model/gguf_model.hpp"
#include "io/model/hugging_face_model.hpp"
#include "io/tensorboard.hpp"
#include "src/core/file.hpp"
#include "src/core/json.hpp"
#include "src/data/gguf_tokenizer.hpp"
#include "src/data/hugging_face_tokenizer.hpp"
#include "src/export/export.hpp"
#include "tests/support/random_model.hpp"
#include "tests/support/tiny_tokenizer.hpp"

namespace slipway {
namespace {

void encode_file(const std::string& type_name, const std::string& in, const std::string& out) {
  const TensorType type = tensor_type_of(type_name);
  const std::string bytes = read_file(in, Fault::kData);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  std::vector<std::byte> stored(static_cast<std::size_t>(bytes_of(type, static_cast<std::int64_t>(values.size()))));
  encode(type, values, stored);
  atomic_write_file(out, {reinterpret_cast<const char*>(stored.data()), stored.size()});
}

void decode_file(const std::string& type_name, const std::string& in, const std::string& out) {
  const TensorType type = tensor_type_of(type_name);
  const std::string bytes = read_file(in, Fault::kData);
  std::vector<float> values(bytes.size() / static_cast<std::size_t>(block_bytes(type)) *
                            static_cast<std::size_t>(block_elements(type)));
  decode(type, std::as_bytes(std::span(bytes)), values);
  atomic_write_file(out, {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
}

void write_metadata(const std::string& out) {
  GgufMetadata data;
  data.add("general.architecture", std::string("llama"));
  data.add("a.u8", std::uint8_t{200});
  data.add("a.i16", std::int16_t{-30000});
  data.add("a.f32", 0.1f);
  data.add("a.f64", 0.1);
  data.add("a.bool", true);
  data.add("a.u64", std::uint64_t{1} << 63);
  data.add("a.text", std::string("ünï"));
  data.add("a.texts", GgufArray(std::vector<std::string>{"", "x", "two words"}));
  data.add("a.numbers", GgufArray(std::vector<std::int32_t>{1, -2, 3}));
  data.add("a.flags", GgufArray(std::vector<bool>{true, false}));
  write_gguf(out, data, {}, [](std::size_t, const ByteSink&) {});
}

void write_curves(const std::string& folder, std::int64_t first, std::int64_t last) {
  TensorBoardWriter writer(folder, first);
  for (std::int64_t step = first; step <= last; ++step) {
    writer.add_scalar("loss/train", 1.0 / static_cast<double>(step), step);
    if (step % 2 == 0) writer.add_scalar("loss/validation", 2.0 / static_cast<double>(step), step);
  }
  writer.flush();
}

void print(const ExportReport& report) {
  std::cout << report.bytes << " bytes, " << report.tensors << " tensors, largest difference "
            << report.largest_difference << "\n";
  for (const std::string& line : report.fallbacks) std::cout << line << "\n";
}

void export_to(const ModelSpec& model, const Tokenizer& tokenizer, const TensorSource& weights,
               std::optional<TensorType> type, const std::string& out) {
  print(out.ends_with(".gguf") ? export_gguf(model, tokenizer, weights, type, out)
                               : export_hugging_face(model, tokenizer, weights, type, out));
}

/// An architecture, or one with its RoPE scaled.
ModelSpec parse_spec(const std::string& description, bool tied) {
  const std::size_t plus = description.find('+');
  ModelSpec model = test::tiny_spec(description.substr(0, plus), tied);
  if (plus == std::string::npos) return model;
  model.rope_scaling = description.substr(plus + 1);
  model.rope_factor = 4;
  if (model.rope_scaling == "llama3") model.rope_original_context = 32;
  return model;
}

void export_added(std::uint64_t seed, const std::string& out) {
  ModelSpec model = test::tiny_spec("llama", false);
  Tokenizer::Parts parts = test::tiny_tokenizer(model.vocabulary).parts();
  for (const char* added : {"<think>", "</think>", "<two words>", "<|end of turn|>", "[reserved]"})
    parts.tokens.emplace_back(added);
  parts.user_defined = {290, 291, 292};
  parts.special_tokens.push_back(293);
  parts.unused = {294};
  parts.eot = 293;
  model.vocabulary = 320;
  const test::RandomWeights weights(model, seed);
  export_to(model, Tokenizer::from_parts(parts), weights, TensorType::kF32, out);
}

void print_ids(const std::string& in, const std::string& text, bool parse_special) {
  const Tokenizer tokenizer = std::filesystem::is_directory(in) ? read_hugging_face_tokenizer(in)
                                                                : tokenizer_of(GgufModel(in).file().metadata());
  for (const int id : tokenizer.encode(text, parse_special)) std::cout << id << " ";
  std::cout << "\n";
}

void print_tokens(const std::string& folder) {
  const Tokenizer tokenizer = read_hugging_face_tokenizer(folder);
  std::cout << to_line({{"bos", tokenizer.bos() ? Json(*tokenizer.bos()) : Json()},
                        {"add_bos", tokenizer.add_bos()},
                        {"ends", tokenizer.end_of_generation_ids()},
                        {"chat_template", tokenizer.parts().chat_template}})
            << "\n";
}

void reexport(const std::string& in, const std::string& out, std::optional<TensorType> type) {
  if (std::filesystem::is_directory(in)) {
    const HuggingFaceModel model(in);
    export_to(model.spec(), read_hugging_face_tokenizer(in), model, type, out);
  } else {
    const GgufModel model(in);
    export_to(model.spec(), tokenizer_of(model.file().metadata()), model, type, out);
  }
}

int run(const std::vector<std::string>& argv) {
  const auto matches = [&](const char* name, std::size_t count) {
    return !argv.empty() && argv[0] == name && argv.size() == count;
  };
  if (matches("encode", 4)) encode_file(argv[1], argv[2], argv[3]);
  else if (matches("decode", 4)) decode_file(argv[1], argv[2], argv[3]);
  else if (matches("metadata", 2)) write_metadata(argv[1]);
  else if (matches("npy", 2))
    write_npy(argv[1], 3, 2, [](const RowSink& add) {
      for (float r = 0; r < 3; ++r) add(std::vector<float>{r, r + 0.5f});
    });
  else if (matches("curves", 4)) write_curves(argv[1], std::stoll(argv[2]), std::stoll(argv[3]));
  else if (matches("model", 6)) {
    const ModelSpec model = parse_spec(argv[1], argv[2] == "tied");
    const test::RandomWeights weights(model, std::stoull(argv[3]));
    export_to(model, test::tiny_tokenizer(model.vocabulary), weights, tensor_type_of(argv[4]), argv[5]);
  } else if (matches("added", 3)) {
    export_added(std::stoull(argv[1]), argv[2]);
  } else if (matches("ids", 4)) {
    print_ids(argv[1], argv[2], argv[3] == "special");
  } else if (matches("tokens", 2)) {
    print_tokens(argv[1]);
  } else if (matches("reread", 3) || matches("reread", 4)) {
    const std::string type = argv.size() == 3 ? "f32" : argv[3];
    reexport(argv[1], argv[2], type == "stored" ? std::nullopt : std::optional(tensor_type_of(type)));
  } else {
    throw Error(Fault::kConfig, "format_probe: see the head of tests/interop/format_probe.cpp");
  }
  return 0;
}

}  // namespace
}  // namespace slipway

int main(int argc, char** argv) {
  try {
    return slipway::run({argv + 1, argv + argc});
  } catch (const slipway::Error& error) {
    std::cerr << "format_probe: error (" << name(error.fault()) << "): " << error.what() << "\n";
    return error.exit_status();
  }
}
