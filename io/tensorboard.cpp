#include "io/tensorboard.hpp"

#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstring>
#include <iomanip>
#include <type_traits>

namespace slipway {
namespace {

constexpr std::array<std::uint32_t, 256> crc_table() {
  constexpr std::uint32_t kPolynomial = 0x82f63b78;  // Castagnoli's, bits reversed
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < table.size(); ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    table[byte] = crc;
  }
  return table;
}
constexpr std::array<std::uint32_t, 256> kCrcTable = crc_table();

/// TFRecord stores masked checksums, since a CRC of bytes that contain CRCs is weak.
std::uint32_t mask_crc(std::uint32_t crc) { return std::rotr(crc, 15) + 0xa282ead8u; }

// Protocol buffers: the few fields of tensorflow.Event that scalar curves need.
enum WireType : std::uint32_t { kVarint = 0, kFixed64 = 1, kLengthDelimited = 2, kFixed32 = 5 };
struct EventFields {
  static constexpr std::uint32_t kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;
};
struct SummaryFields {
  static constexpr std::uint32_t kValue = 1, kTag = 1, kSimpleValue = 2;
};
struct SessionLogFields {
  static constexpr std::uint32_t kStatus = 1, kStart = 1;
};

void put_varint(std::string& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}
void put_key(std::string& out, std::uint32_t field, WireType wire_type) { put_varint(out, field << 3 | wire_type); }

template <class T>
void put_fixed(std::string& out, std::uint32_t field, T value) {
  put_key(out, field, sizeof value == 8 ? kFixed64 : kFixed32);
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void put_int64(std::string& out, std::uint32_t field, std::int64_t value) {
  put_key(out, field, kVarint);
  put_varint(out, static_cast<std::uint64_t>(value));
}
void put_text(std::string& out, std::uint32_t field, std::string_view text) {
  put_key(out, field, kLengthDelimited);
  put_varint(out, text.size());
  out += text;
}

double wall_time_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "slipway";
  return name.data();
}

/// The fields of every event: time and step, which is left out when 0.
std::string begin_event(std::int64_t step) {
  std::string event;
  put_fixed(event, EventFields::kWallTime, wall_time_s());
  if (step > 0) put_int64(event, EventFields::kStep, step);
  return event;
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t crc = ~0u;
  for (const char c : bytes) crc = kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 0xff] ^ (crc >> 8);
  return ~crc;
}

TensorBoardWriter::TensorBoardWriter(const std::filesystem::path& folder, std::int64_t first_step) {
  static std::atomic<int> file_count{
      0};  // of this process, so that two files of the same microsecond have different names
  std::error_code reason;
  std::filesystem::create_directories(folder, reason);
  if (reason) throw Error(Fault::kStorage, join("cannot make the folder ", folder.string(), ": ", reason.message()));
  // tensorboard reads files in the order of their names, so the time comes first, zero-padded, in microseconds: a run
  // may be resumed within the same second, and process ids may repeat
  constexpr std::int64_t kUsPerS = 1'000'000;
  const auto now_us = static_cast<std::int64_t>(wall_time_s() * kUsPerS);
  path_ = folder / join("events.out.tfevents.", std::setfill('0'), std::setw(10), now_us / kUsPerS, ".", std::setw(6),
                        now_us % kUsPerS, ".", host_name(), ".", ::getpid(), ".", file_count++);
  file_ = std::make_unique<FileWriter>(path_);

  std::string version_event = begin_event(0);
  put_text(version_event, EventFields::kFileVersion, "brain.Event:2");
  write_record(version_event);
  if (first_step > 0) {
    std::string session_log;
    put_int64(session_log, SessionLogFields::kStatus, SessionLogFields::kStart);
    std::string start_event = begin_event(first_step);
    put_text(start_event, EventFields::kSessionLog, session_log);
    write_record(start_event);
  }
  flush();
}

void TensorBoardWriter::add_scalar(std::string_view tag, double value, std::int64_t step) {
  std::string summary_value;
  put_text(summary_value, SummaryFields::kTag, tag);
  put_fixed(summary_value, SummaryFields::kSimpleValue, static_cast<float>(value));
  std::string summary;
  put_text(summary, SummaryFields::kValue, summary_value);
  std::string event = begin_event(step);
  put_text(event, EventFields::kSummary, summary);
  write_record(event);
}

void TensorBoardWriter::flush() { file_->flush(); }

/// Writes length, masked CRC of the length, the bytes, masked CRC of the bytes: all little-endian.
void TensorBoardWriter::write_record(std::string_view event) {
  const std::uint64_t length = event.size();
  const std::uint32_t length_crc = mask_crc(crc32c({reinterpret_cast<const char*>(&length), sizeof length}));
  const std::uint32_t event_crc = mask_crc(crc32c(event));
  file_->write(&length, sizeof length);
  file_->write(&length_crc, sizeof length_crc);
  file_->write(event);
  file_->write(&event_crc, sizeof event_crc);
}

}  // namespace slipway
