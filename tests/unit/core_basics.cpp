// Errors, clocks, JSON and logs.
#include <gtest/gtest.h>

#include <cerrno>
#include <cmath>
#include <filesystem>
#include <limits>
#include <string>

#include "src/core/clock.hpp"
#include "src/core/error.hpp"
#include "src/core/file.hpp"
#include "src/core/json.hpp"
#include "src/core/json_number.hpp"
#include "src/core/log.hpp"
#include "src/core/tensor.hpp"
#include "src/core/terminal.hpp"
#include "src/core/words.hpp"
#include "tests/support/core_files.hpp"

namespace slipway {
namespace {

TEST(ErrorTest, ExitStatusesAndWordsAreThoseOfTheInterface) {
  const std::pair<Fault, std::pair<int, std::string>> kExpected[] = {
      {Fault::kConfig, {2, "config"}}, {Fault::kData, {3, "data"}},     {Fault::kStorage, {4, "storage"}},
      {Fault::kComm, {5, "comm"}},     {Fault::kDevice, {6, "device"}}, {Fault::kNumeric, {7, "numeric"}},
      {Fault::kGate, {8, "gate"}},     {Fault::kBug, {9, "bug"}},
  };
  for (const auto& [fault, expected] : kExpected) {
    EXPECT_EQ(Error(fault, "").exit_status(), expected.first);
    EXPECT_EQ(name(fault), expected.second);
  }
}

TEST(ErrorTest, SentenceComesBackUnchanged) {
  try {
    throw Error(Fault::kData, join("row ", 7, " of ", FileLocation{"a/b.txt", 3}, ": ", 2.5));
  } catch (const std::exception& error) {
    EXPECT_STREQ(error.what(), "row 7 of a/b.txt:3: 2.5");
  }
}

TEST(ErrorTest, ANaNIsOneWordWhateverItsSign) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(join(nan, " ", -nan, " ", std::copysign(std::numeric_limits<float>::quiet_NaN(), -1.0f)), "nan nan nan");
}

TEST(ErrorTest, ANulDoesNotEndTheSentence) {
  const Error error(Fault::kData, std::string("found 'a\0', expected b", 22));
  EXPECT_STREQ(error.what(), "found 'a\\x00', expected b");
}

TEST(ErrorTest, WhereWithoutALineIsThePathAlone) {
  EXPECT_EQ(join(FileLocation{"a.txt"}), "a.txt");
  EXPECT_EQ(join(FileLocation{"a.txt", 1}), "a.txt:1");
}

TEST(ErrorTest, RequireBlamesSlipwayOnlyWhenFalse) {
  EXPECT_NO_THROW(require(true, "never said"));
  expect_error(Fault::kBug, "the sky fell", [] { require(false, "the sky fell"); });
}

TEST(ErrorTest, SystemReasonIsThatOfErrno) {
  errno = ENOSPC;
  EXPECT_EQ(errno_message(), "No space left on device");
}

TEST(ClockTest, TimesReadAsPeopleWriteThem) {
  EXPECT_EQ(human_time(0), "0s");
  EXPECT_EQ(human_time(59.4), "59s");
  EXPECT_EQ(human_time(59.6), "1m00s");
  EXPECT_EQ(human_time(185), "3m05s");
  EXPECT_EQ(human_time(3599.7), "1h00m");
  EXPECT_EQ(human_time(7800), "2h10m");
}

TEST(ClockTest, CountsReadAsPeopleWriteThem) {
  EXPECT_EQ(human_count(0), "0");
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(12'345), "12.3k");
  EXPECT_EQ(human_count(7.9e6), "7.9M");
  EXPECT_EQ(human_count(1.2e9), "1.20B");
}

TEST(ClockTest, BytesReadInPowersOf1024) {
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1024), "1.0 KiB");
  EXPECT_EQ(human_bytes(3.2 * 1024 * 1024), "3.2 MiB");
  EXPECT_EQ(human_bytes(1e18), "909494.7 TiB");
}

TEST(ClockTest, UtcIsIso8601) {
  std::string shape = utc_now();
  for (char& c : shape)
    if (c >= '0' && c <= '9') c = '0';
  EXPECT_EQ(shape, "0000-00-00T00:00:00Z");
}

TEST(ClockTest, SecondsSinceStartOnlyGrow) {
  const double before_s = seconds_since_start();
  EXPECT_GE(before_s, 0);
  EXPECT_GE(seconds_since_start(), before_s);
}

TEST(JsonTest, ObjectsKeepTheOrderOfTheirKeys) {
  EXPECT_EQ(to_line({{"zebra", 1}, {"ant", 2}}), R"({"zebra":1,"ant":2})");
}

TEST(JsonTest, BytesThatAreNotUtf8BecomeTheReplacementCharacter) {
  EXPECT_EQ(to_line({{"text", "a\xff"}}), "{\"text\":\"a\xef\xbf\xbd\"}");
}

TEST(JsonTest, PrettyEndsWithANewline) { EXPECT_EQ(to_pretty({{"a", 1}}), "{\n  \"a\": 1\n}\n"); }

TEST(JsonTest, DoublesSurviveTheirTextBitForBit) {
  for (const double value : {0.1, 1.0 / 3.0, 5e-324, 1.7976931348623157e308, -0.0})
    EXPECT_EQ(parse_json(to_line(value), {"memory"}, Fault::kBug).get<double>(), value);
}

TEST(JsonTest, NumbersThatAreNotFiniteAreNamedAndNeverNull) {
  const Json json = {{"a", std::nan("")}, {"b", {1.5, -INFINITY, {{"c", INFINITY}}}}, {"d", nullptr}};
  EXPECT_EQ(to_line(json), R"({"a":"NaN","b":[1.5,"-Infinity",{"c":"Infinity"}],"d":null})");
  EXPECT_NE(to_pretty(json).find("\"a\": \"NaN\""), std::string::npos);
}

TEST(JsonTest, AnObjectOfManyKeysIsReadInLinearTimeAndOfEqualKeysTheLastCounts) {
  constexpr int kKeys = 300'000;  // by looking through them for each new one: a minute
  std::string text = "{\"first\":[1,{\"a\":2}]";
  for (int i = 0; i < kKeys; ++i) text += join(",\"k", i, "\":", i);
  const Json json = parse_json(text + ",\"k7\":null,\"first\":true}", {"m.json"}, Fault::kStorage);
  EXPECT_EQ(json.size(), kKeys + 1u);
  EXPECT_EQ(json.begin().key(), "first");
  EXPECT_EQ(json.begin().value(), true);
  EXPECT_TRUE(json["k7"].is_null());
  EXPECT_EQ(json["k299"], 299);
  EXPECT_EQ(to_line(parse_json(R"({"b":[],"a":{"x":[[],{}]},"b":1})", {"m.json"}, Fault::kStorage)),
            R"({"b":1,"a":{"x":[[],{}]}})");
}

TEST(JsonTest, AWholeNumberIsTakenOnlyWhereItFits) {
  EXPECT_EQ(checked_integer<int>(Json(-5)), -5);
  EXPECT_EQ(checked_count<std::uint64_t>(Json(~std::uint64_t{0})), ~std::uint64_t{0});
  EXPECT_EQ(checked_integer<std::int64_t>(Json(INT64_MIN)), INT64_MIN);
  for (const Json& bad :
       {Json(std::int64_t{1} << 32), Json(INT64_MIN), Json(1.0), Json("1"), Json(true), Json(nullptr)})
    EXPECT_THROW(checked_integer<int>(bad), nlohmann::json::exception) << bad;
  EXPECT_THROW(checked_count<int>(Json(-1)), nlohmann::json::exception);
  EXPECT_THROW(checked_count<std::uint64_t>(Json(-1)), nlohmann::json::exception);
  EXPECT_THROW(checked_integer<std::int64_t>(Json(std::uint64_t{1} << 63)), nlohmann::json::exception);
}

TEST(JsonTest, NestingIsBounded) {
  EXPECT_EQ(json_depth(R"({"[[[": ["\"[", {"a": []}]})"), 4);
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  parse_json(nested(kMaxJsonDepth), {"m.json"}, Fault::kStorage);
  expect_error(Fault::kStorage, "nested 1000000 deep",
               [&] { parse_json(nested(1'000'000), {"m.json"}, Fault::kStorage); });
}

TEST(JsonTest, BrokenTextIsTheCallersFaultWithFileAndLine) {
  expect_error(Fault::kData, "rows.jsonl:12", [] { parse_json("{\"a\": ", {"rows.jsonl", 12}, Fault::kData); });
  expect_error(Fault::kStorage, "m.json: not valid JSON (line 1, column 1: it ends too early)",
               [] { parse_json("", {"m.json"}, Fault::kStorage); });
  expect_error(Fault::kStorage, "line 2, column 1: unexpected '}'; expected string literal",
               [] { parse_json("{\"a\": 1,\n}", {"m.json"}, Fault::kStorage); });
  expect_error(Fault::kStorage, "not valid JSON", [] { parse_json("1e999", {"m.json"}, Fault::kStorage); });
}

TEST(JsonTest, MissingFileIsTheCallersFault) {
  const ScratchFolder folder;
  expect_error(Fault::kStorage, "No such file", [&] { read_json(folder / "none.json", Fault::kStorage); });
}

// One test, in order: the log is one per process.
TEST(LogTest, EventsAreOneObjectALineWithRankAndTime) {
  const ScratchFolder folder;
  log::event("too early", {});  // no file is open yet: dropped, by contract
  log::open_events(folder / "events/rank-3.jsonl");
  log::set_rank(3);
  log::event("saved", {{"step", 100}, {"path", "a\nb"}});
  const std::size_t before = log::warnings().size();
  testing::internal::CaptureStderr();
  log::warn("the disk is slow");
  log::info("only rank 0 prints this");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "slipway: warning: the disk is slow\n");
  EXPECT_EQ(log::warnings().size(), before + 1);
  EXPECT_EQ(log::warnings().back(), "the disk is slow");
  testing::internal::CaptureStderr();
  log::warn("the disk is slow");  // printed again, recorded once
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "slipway: warning: the disk is slow\n");
  EXPECT_EQ(log::warnings().size(), before + 1);

  log::set_rank(0);
  testing::internal::CaptureStderr();
  {
    const log::QuietScope quiet;
    log::info("hushed");
  }
  log::info("heard");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "heard\n");

  std::istringstream lines(read_file(folder / "events/rank-3.jsonl", Fault::kBug));
  std::vector<Json> events;
  for (std::string line; std::getline(lines, line);) events.push_back(parse_json(line, {"events"}, Fault::kBug));
  ASSERT_EQ(events.size(), 6u);
  EXPECT_EQ(events[0]["event"], "saved");
  EXPECT_EQ(events[0]["rank"], 3);
  EXPECT_EQ(events[0]["step"], 100);
  EXPECT_EQ(events[0]["path"], "a\nb");
  EXPECT_GE(events[0]["t_s"].get<double>(), 0.0);
  EXPECT_EQ(events[1]["event"], "warning");
}

TEST(LogTest, AnEventFileThatCannotBeOpenedIsAnError) {
  const ScratchFolder folder;
  atomic_write_file(folder / "file", "in the way");
  expect_error(Fault::kStorage, "file", [&] { log::open_events(folder / "file/rank-0.jsonl"); });
  std::filesystem::create_directory(folder / "rank-0.jsonl");
  expect_error(Fault::kStorage, "Is a directory", [&] { log::open_events(folder / "rank-0.jsonl"); });
}

TEST(LogTest, EventsThatCannotBeWrittenAreSaidOnce) {
  if (!std::filesystem::is_character_file("/dev/full")) GTEST_SKIP() << "this machine has no /dev/full";
  log::open_events("/dev/full");
  testing::internal::CaptureStderr();
  log::event("lost", {});
  log::event("lost too", {});
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "slipway: warning: cannot write events (No space left on device); this rank logs no more of them\n");
}

TEST(TerminalTest, ALineIsCutBetweenCharactersWhereTheTerminalEnds) {
  EXPECT_EQ(clip_to_columns("Step 12", 4), "Step");
  EXPECT_EQ(clip_to_columns("Step 12", 7), "Step 12");
  EXPECT_EQ(clip_to_columns("Step 12", 0), "Step 12");  // no terminal, no end
  EXPECT_EQ(clip_to_columns("na\u00efve", 3), "na\u00ef");
  EXPECT_EQ(clip_to_columns("na\u00efve", 2), "na");
  EXPECT_EQ(clip_to_columns("", 5), "");
}

TEST(TerminalTest, WhatCouldMoveTheTerminalIsShownAsBytes) {
  EXPECT_EQ(printable("a\tna\u00efve \u65e5\u672c \U0001f642\n"), "a\tna\u00efve \u65e5\u672c \U0001f642\n");
  EXPECT_EQ(printable("\x1b[2J\r\x7f"), "\\x1b[2J\\x0d\\x7f");
  EXPECT_EQ(printable(std::string_view("\0", 1)), "\\x00");
  EXPECT_EQ(printable("\u009b"
                      "1m"),
            "\\xc2\\x9b1m");  // CSI as one character
  EXPECT_EQ(printable("\u202e"
                      "gpj.exe"),
            "\\xe2\\x80\\xaegpj.exe");                                        // right to left from here on
  EXPECT_EQ(printable("\xff\xc3"), "\\xff\\xc3");                             // no UTF-8, and the half of a character
  EXPECT_EQ(printable("\xc0\xaf\xed\xa0\x80"), "\\xc0\\xaf\\xed\\xa0\\x80");  // overlong, and a surrogate
  EXPECT_EQ(printable("\xf4\x90\x80\x80\xf4\x8f\xbf\xbd"), "\\xf4\\x90\\x80\\x80\xf4\x8f\xbf\xbd");  // above U+10FFFF
}

TEST(PluralTest, OneThingIsNotSeveral) {
  EXPECT_EQ(pluralize(1, "micro-batch", "micro-batches"), "1 micro-batch");
  EXPECT_EQ(pluralize(0, "micro-batch", "micro-batches"), "0 micro-batches");
  EXPECT_EQ(pluralize(std::size_t{2}, "thread"), "2 threads");
}

TEST(BufferTest, IsZeroedAlignedAndMoves) {
  Buffer<float> buffer(33);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64, 0u);
  for (const float value : buffer.span()) EXPECT_EQ(value, 0.0f);
  buffer[32] = 5;
  const Buffer<float> moved = std::move(buffer);
  EXPECT_EQ(moved[32], 5.0f);
  EXPECT_EQ(Buffer<float>().data(), nullptr);
}

TEST(BufferTest, AViewLargerThanTheBufferIsABug) {
  Buffer<float> buffer(12);
  EXPECT_EQ(buffer.matrix(3, 4).row(2), buffer.data() + 8);
  expect_error(Fault::kBug, "larger than the buffer", [&] { buffer.matrix(5, 3); });
}

TEST(MatrixTest, ViewsShareTheStrideOfTheWhole) {
  Buffer<int> buffer(20);
  const Matrix<int> full_view = buffer.matrix(4, 5);
  const Matrix<int> view = full_view.view_rows(1, 2).view_cols(2, 3);
  *(view.row(1) + 1) = 7;
  EXPECT_EQ(buffer[2 * 5 + 3], 7);
  EXPECT_TRUE(full_view.contiguous());
  EXPECT_FALSE(view.contiguous());
  EXPECT_EQ(view.size(), 6);
}

}  // namespace
}  // namespace slipway
