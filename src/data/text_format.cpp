#include "src/data/text_format.hpp"

#include <algorithm>
#include <array>

#include "io/data/compressed.hpp"
#include "src/core/error.hpp"
#include "src/core/git_lfs.hpp"
#include "src/data/input_list.hpp"

namespace slipway {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kBlanks = " \t\r\n";

/// A file format that is not text.
struct Magic {
  std::size_t offset;
  std::string_view bytes;
  std::string_view description;
  std::string_view hint;
};

// From the formats' own specifications, as file(1) lists them. .gz and .zst are unpacked before anything is looked at.
constexpr Magic kMagics[] = {
    {0, "BZh"sv, "packed by bzip2", "unpack it with bunzip2"},
    {0,
     "\xFD"
     "7zXZ\0"sv,
     "packed by xz", "unpack it with unxz"},
    {0, "\x1F\x8B"sv, "packed by gzip twice", "unpack it with gunzip"},
    {0, "\x28\xB5\x2F\xFD"sv, "packed by zstd twice", "unpack it with unzstd"},
    {0, "PK\x03\x04"sv, "a ZIP archive", "unpack it with unzip"},
    {0, "7z\xBC\xAF\x27\x1C"sv, "a 7-Zip archive", "unpack it with 7z x"},
    {257, "ustar"sv, "a tar archive", "unpack it with tar -xf and give the folder"},
    {0, "PAR1"sv, "Parquet",
     "convert it to JSON lines with pandas' read_parquet and to_json(orient='records', lines=True)"},
    {0, "ARROW1"sv, "Arrow", "convert it to JSON lines, with datasets' to_json"},
    {0, "\x89HDF\r\n\x1A\n"sv, "HDF5", "write its text into a file first"},
    {0, "%PDF-"sv, "a PDF", "extract its text first, with pdftotext"},
    {0, "SQLite format 3\0"sv, "an SQLite database", "write its text into a file first"},
    {0,
     "\x7F"
     "ELF"sv,
     "a program", "take it out of the input"},
    {0, "\x89PNG"sv, "an image", "take it out of the input"},
    {0, "\xFF\xD8\xFF"sv, "an image", "take it out of the input"},
    {0, "GGUF"sv, "a GGUF model", "take it out of the input"},
    {0, kGitLfsPrefix, kGitLfsDescription, kGitLfsHint},
    {0, "SWTOKENS"sv, "a token shard of slipway", "give the texts themselves"},
};

/// UTF-16 and UTF-32 by their byte order marks, or by the NUL bytes between ASCII letters; empty for anything else.
std::string_view wide_encoding(std::string_view head) {
  if (head.starts_with("\xFF\xFE\0\0"sv) || head.starts_with("\0\0\xFE\xFF"sv)) return "UTF-32";
  if (head.starts_with("\xFF\xFE"sv) || head.starts_with("\xFE\xFF"sv)) return "UTF-16";
  std::array<std::size_t, 2> nuls{};
  for (std::size_t i = 0; i < head.size(); ++i)
    if (head[i] == '\0') ++nuls[i % 2];
  const std::size_t half = head.size() / 2;
  if (half < 2) return "";
  if (nuls[1] > half / 2 && nuls[0] <= half / 8) return "UTF-16LE";
  if (nuls[0] > half / 2 && nuls[1] <= half / 8) return "UTF-16BE";
  return "";
}

std::string refusal_for(std::string_view head, const std::filesystem::path& path) {
  for (const Magic& magic : kMagics)
    if (head.size() >= magic.offset && head.substr(magic.offset).starts_with(magic.bytes))
      return join("the file is ", magic.description, ", which is not read; ", magic.hint);
  if (const std::string_view encoding = wide_encoding(head); !encoding.empty())
    return join("the text is ", encoding, ", but UTF-8 is expected; ",
                compression_of(path) == Compression::kNone ? "" : "unpack it and ", "convert it with iconv -f ",
                encoding, " -t UTF-8 ", without_compression(path).string(), " > utf8",
                without_compression(path).extension().string());
  return "";
}

std::string_view trim_leading_blanks(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of(kBlanks), text.size()));
}

/// {"name": and no line end in between: how a row begins, and no other kind of text.
bool starts_like_row(std::string_view text) {
  if (!text.starts_with('{')) return false;
  text.remove_prefix(1);
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  if (!text.starts_with('"')) return false;
  std::size_t end = 1;
  while (end < text.size() && text[end] != '"' && text[end] != '\n') end += text[end] == '\\' ? 2 : 1;
  if (end >= text.size() || text[end] != '"') return false;
  text.remove_prefix(end + 1);
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  return text.starts_with(':');
}

bool is_row(std::string_view text) {
  if (!starts_like_row(text)) return false;
  std::string_view line = text.substr(0, text.find('\n'));
  if (line.size() == text.size() && text.size() > kHeadBytes / 2) return true;  // a long row continues after the head
  line = line.substr(0, line.find_last_not_of(kBlanks) + 1);
  return line.ends_with('}');
}

bool is_array(std::string_view text) {
  if (!text.starts_with('[')) return false;
  text = trim_leading_blanks(text.substr(1));
  if (!text.starts_with('{')) return false;
  const std::string_view first_row = trim_leading_blanks(text.substr(1));  // rows of an array may span lines
  return first_row.starts_with('"') && starts_like_row("{" + std::string(first_row.substr(0, first_row.find('\n'))));
}

bool is_tokenizer_json(std::string_view text) {
  return text.starts_with('{') && text.find("\"added_tokens\"") != std::string_view::npos &&
         text.find("\"pre_tokenizer\"") != std::string_view::npos;
}

}  // namespace

DetectedFormat detect_format(std::string_view head, const std::filesystem::path& path, const std::string& requested) {
  DetectedFormat detected;
  detected.refusal = refusal_for(head, path);
  if (!detected.refusal.empty()) return detected;
  if (requested == "text") return detected;
  const std::string_view text = trim_leading_blanks(head);
  if (requested == "jsonl" || requested == "json") {
    detected.format = requested == "jsonl" ? TextFormat::kRows : TextFormat::kArray;
    return detected;
  }
  const std::string suffix = without_compression(path).extension().string();
  const bool has_jsonl_extension = suffix == ".jsonl" || suffix == ".ndjson" || suffix == ".jsonlines";
  const bool has_json_extension = suffix == ".json";
  if (is_array(text)) return {.format = TextFormat::kArray, .note = has_json_extension ? nullptr : "array_by_content"};
  if (has_jsonl_extension) return {.format = TextFormat::kRows};
  if (is_row(text)) return {.format = TextFormat::kRows, .note = "rows_by_content"};
  if (has_json_extension && is_tokenizer_json(text)) return {.note = "own_output", .is_tokenizer = true};
  if (has_json_extension) return {.note = "json_as_text"};
  if (suffix == ".csv" || suffix == ".tsv") return {.note = "csv_as_text"};
  return detected;
}

}  // namespace slipway
