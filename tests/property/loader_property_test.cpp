// Laws of order, mixture, packing and loader over seeded corpora: every token once an epoch, targets that follow, and
// one order for any ranks.
#include <map>
#include <set>
#include <thread>

#include "src/core/log.hpp"
#include "src/core/random.hpp"
#include "src/data/loader.hpp"
#include "tests/unit/data_support.hpp"

namespace slipway {
namespace {

using namespace data_test;

/// A corpus of documents with odd lengths, each of which begins with its own number.
class LoaderTest : public testing::Test {
 protected:
  static constexpr int kDocuments = 41;

  static void SetUpTestSuite() {
    folder_ = std::make_unique<TempFolder>();
    std::string rows;
    const Random random(/*seed=*/5, /*stream=*/1);
    for (std::uint64_t i = 0; i < kDocuments; ++i) {
      std::string text = join(i, ":");
      const std::uint64_t length = i % 5 == 0 ? 0 : random.uniform_int(i % 4 == 0 ? 150 : 23, i);
      for (std::uint64_t j = 0; j < length; ++j) text += static_cast<char>('a' + random.uniform_int(26, 1000 * i + j));
      rows += join("{\"text\":\"", text, "\",\"lane\":\"", i % 3 == 0 ? "code" : "text", "\"}\n");
    }
    PrepareConfig config{.validation_fraction = 0.2, .shard_tokens = 200};
    prepare_corpus({{folder_->write_file("rows.jsonl", rows)}}, config, byte_tokenizer(/*add_bos=*/true),
                   *folder_ / "data");
    corpus_ = std::make_unique<Corpus>(Corpus::open(*folder_ / "data"));
  }
  static void TearDownTestSuite() {
    corpus_.reset();
    folder_.reset();
  }

  static std::vector<int> document(Split split, std::int64_t index) {
    std::vector<int> ids(static_cast<std::size_t>(corpus_->document_tokens(split, index)));
    corpus_->copy(split, index, 0, static_cast<std::int64_t>(ids.size()), ids.data());
    return ids;
  }

  /// A whole epoch with its rows put back into the order of the text.
  static Batch in_text_order(const Loader& loader, std::uint64_t epoch) {
    const auto per_epoch = static_cast<std::uint64_t>(loader.sequences_per_epoch());
    const Batch shuffled = loader.sequences(epoch * per_epoch, static_cast<int>(per_epoch));
    Batch batch = shuffled;
    for (std::uint64_t row = 0; row < per_epoch; ++row) {
      const auto tokens_per_sequence = static_cast<std::ptrdiff_t>(shuffled.tokens_per_sequence),
                 from = static_cast<std::ptrdiff_t>(row) * tokens_per_sequence,
                 to = loader.index_in_epoch(epoch * per_epoch + row) * tokens_per_sequence;
      const auto move = [&](auto& destination, const auto& shuffled_column) {
        std::copy_n(shuffled_column.begin() + from, tokens_per_sequence, destination.begin() + to);
      };
      move(batch.ids, shuffled.ids), move(batch.targets, shuffled.targets), move(batch.weights, shuffled.weights);
      move(batch.positions, shuffled.positions), move(batch.key_start, shuffled.key_start),
          move(batch.document_starts, shuffled.document_starts);
    }
    return batch;
  }

  /// Batches one after the other, as one: what the hash of a step is of.
  static Batch concatenate(const std::vector<Batch>& parts) {
    Batch reference = parts.front();
    for (std::size_t i = 1; i < parts.size(); ++i) {
      const auto append = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
      append(reference.ids, parts[i].ids), append(reference.targets, parts[i].targets);
      append(reference.weights, parts[i].weights);
    }
    return reference;
  }

  /// The documents of an epoch, in order, read back from the stream of inputs: BOS starts each.
  static std::vector<std::vector<int>> documents_of(const Loader& loader, std::uint64_t epoch) {
    const Batch batch = in_text_order(loader, epoch);
    std::vector<std::vector<int>> documents;
    for (std::int64_t i = 0; i < loader.tokens_per_epoch(); ++i) {
      const int id = batch.ids[static_cast<std::size_t>(i)];
      if (id == kBos) documents.emplace_back();
      documents.back().push_back(id);
    }
    return documents;
  }

  inline static std::unique_ptr<TempFolder> folder_;
  inline static std::unique_ptr<Corpus> corpus_;
};

TEST_F(LoaderTest, EveryTokenOfEveryDocumentGoesInOnceAnEpoch) {
  for (const Split split : kSplits) {
    std::multiset<std::vector<int>> expected;
    for (std::int64_t i = 0; i < corpus_->documents(split); ++i) expected.insert(document(split, i));
    for (const char* packing : {"documents", "stream"})
      for (const int tokens : {1, 2, 7, 31, 64, 5000})
        for (const std::uint64_t epoch : {0u, 1u, 5u}) {
          const Loader loader(*corpus_, split, {.packing = packing}, tokens, /*seed=*/3);
          const auto actual = documents_of(loader, epoch);
          EXPECT_EQ(std::multiset<std::vector<int>>(actual.begin(), actual.end()), expected)
              << packing << " T=" << tokens << " epoch=" << epoch;
        }
  }
}

TEST_F(LoaderTest, TheOrderFollowsFromSeedAndEpochAlone) {
  const Loader a(*corpus_, Split::kTrain, {}, 7, 3), b(*corpus_, Split::kTrain, {.packing = "stream"}, 19, 3),
      other(*corpus_, Split::kTrain, {}, 7, 4);
  for (const std::uint64_t epoch : {0u, 1u, 2u}) EXPECT_EQ(documents_of(a, epoch), documents_of(b, epoch));
  EXPECT_NE(documents_of(a, 0), documents_of(a, 1));
  EXPECT_NE(documents_of(a, 0), documents_of(other, 0));
}

TEST_F(LoaderTest, NeighboursInTheRunAreNoNeighboursInTheText) {
  const Loader loader(*corpus_, Split::kTrain, {}, 2, 3);
  const std::int64_t per_epoch = loader.sequences_per_epoch();
  std::set<std::int64_t> seen_positions;
  int neighbours = 0;
  for (std::int64_t i = 0; i < per_epoch; ++i) {
    const std::int64_t position = loader.index_in_epoch(static_cast<std::uint64_t>(i));
    neighbours += i > 0 && position == loader.index_in_epoch(static_cast<std::uint64_t>(i - 1)) + 1;
    seen_positions.insert(position);
  }
  EXPECT_EQ(static_cast<std::int64_t>(seen_positions.size()), per_epoch) << "every place once";
  EXPECT_EQ(*seen_positions.begin(), 0);
  EXPECT_EQ(*seen_positions.rbegin(), per_epoch - 1);
  EXPECT_LT(neighbours, per_epoch / 20) << "of " << per_epoch;
}

TEST_F(LoaderTest, TargetsAreTheNextTokensAndNeverCrossDocuments) {
  for (const int tokens : {1, 5, 16, 33}) {
    const Loader loader(*corpus_, Split::kTrain, {.packing = "documents"}, tokens, 3);
    const Batch batch = in_text_order(loader, 0);
    std::vector<int> stream;
    for (const auto& ids : documents_of(loader, 0)) stream.insert(stream.end(), ids.begin(), ids.end());

    std::int64_t weighted = 0;
    for (std::size_t i = 0; i < batch.ids.size(); ++i) {
      const int t = static_cast<int>(i) % tokens;
      const bool padding = i >= stream.size();
      const bool last_of_document = !padding && stream[i] == kEos;  // every document ends with it
      ASSERT_EQ(batch.weights[i], padding || last_of_document ? 0.0f : 1.0f) << "T=" << tokens << " i=" << i;
      if (batch.weights[i] == 1.0f) {
        ASSERT_EQ(batch.targets[i], stream[i + 1]) << "T=" << tokens << " i=" << i;
      }
      ASSERT_EQ(batch.document_starts[i], !padding && stream[i] == kBos);
      // A segment begins at a document's start, at the row's start, and where padding begins.
      const bool begins = t == 0 || (!padding && stream[i] == kBos) || i == stream.size();
      ASSERT_EQ(batch.key_start[i], begins ? t : batch.key_start[i - 1]);
      ASSERT_EQ(batch.positions[i], t - batch.key_start[i]);
      weighted += batch.weights[i] == 1.0f;
    }
    EXPECT_EQ(weighted, loader.tokens_per_epoch() - corpus_->documents(Split::kTrain));
  }
}

TEST_F(LoaderTest, AStreamTargetsEveryTokenButTheEpochsLast) {
  const Loader loader(*corpus_, Split::kTrain, {.packing = "stream"}, 13, 3);
  const Batch batch = in_text_order(loader, 0);
  const auto total = static_cast<std::size_t>(loader.tokens_per_epoch());
  for (std::size_t i = 0; i < batch.ids.size(); ++i) {
    ASSERT_EQ(batch.weights[i], i + 1 < total ? 1.0f : 0.0f) << i;
    if (i + 1 < total) {
      ASSERT_EQ(batch.targets[i], batch.ids[i + 1]);
    }
    ASSERT_EQ(batch.key_start[i], 0);
    ASSERT_EQ(batch.positions[i], static_cast<int>(i % 13));
    ASSERT_EQ(batch.document_starts[i], 0);
  }
}

TEST_F(LoaderTest, AnySlicingAmongRanksGivesTheSameSequences) {
  constexpr int kBatch = 8, kSteps = 9;
  const Loader reference(*corpus_, Split::kTrain, {}, 11, 3);
  for (const int ranks : {1, 2, 4}) {
    Loader loader(*corpus_, Split::kTrain, {}, 11, 3);
    for (int step = 1; step <= kSteps; ++step) {
      const std::uint64_t first = loader.next_sequences(kBatch, step);
      ASSERT_EQ(first, static_cast<std::uint64_t>((step - 1) * kBatch));
      const Batch expected = reference.sequences(first, kBatch);
      for (int rank = 0; rank < ranks; ++rank) {
        const int per_rank = kBatch / ranks;
        const Batch part = loader.sequences(first + static_cast<std::uint64_t>(rank * per_rank), per_rank);
        const auto at = static_cast<std::ptrdiff_t>(rank * per_rank * 11);
        ASSERT_TRUE(std::equal(part.ids.begin(), part.ids.end(), expected.ids.begin() + at));
        ASSERT_TRUE(std::equal(part.targets.begin(), part.targets.end(), expected.targets.begin() + at));
        ASSERT_TRUE(std::equal(part.weights.begin(), part.weights.end(), expected.weights.begin() + at));
        ASSERT_TRUE(std::equal(part.key_start.begin(), part.key_start.end(), expected.key_start.begin() + at));
        ASSERT_EQ(part.row_ids.front(), first + static_cast<std::uint64_t>(rank * per_rank));
      }
    }
  }
}

TEST_F(LoaderTest, TheWeightSumOfAnEpochIsThatOfItsTargetsHoweverItIsCut) {
  const std::int64_t documents = corpus_->documents(Split::kTrain);
  for (const auto& [packing, without_target] : {std::pair{"documents", documents}, {"stream", std::int64_t{1}}})
    for (const int tokens : {1, 6, 29, 700, 5000}) {
      const Loader loader(*corpus_, Split::kTrain, {.packing = packing}, tokens, 3);
      const auto per_epoch = static_cast<int>(loader.sequences_per_epoch());
      for (const int cut : {1, 3, per_epoch}) {
        double sum = 0;
        std::int64_t count = 0;
        for (int first = 0; first < per_epoch; first += cut) {
          const Batch batch =
              loader.sequences(static_cast<std::uint64_t>(per_epoch + first), std::min(cut, per_epoch - first));
          double batch_sum = 0;
          for (const float weight : batch.weights) batch_sum += static_cast<double>(weight);
          ASSERT_EQ(batch.weight_sum(), batch_sum);
          sum += batch.weight_sum(), count += batch.target_count();
        }
        ASSERT_EQ(sum, static_cast<double>(corpus_->tokens(Split::kTrain) - without_target))
            << packing << " T=" << tokens << " cut=" << cut;
        ASSERT_EQ(count, corpus_->tokens(Split::kTrain) - without_target);
      }
    }
}

TEST(BatchTest, FractionalLossWeightsAddUpAndAnEmptyBatchDividesByOne) {
  Batch batch;
  clear_batch(2, 3, batch);
  EXPECT_EQ(batch.weight_sum(), 0);
  EXPECT_EQ(loss_denominator(batch.weight_sum()), 1);
  batch.weights = {0.5f, 0, 0.125f, 0, 0, 0.0625f};
  EXPECT_EQ(batch.weight_sum(), 0.6875);
  EXPECT_EQ(batch.target_count(), 3);
  EXPECT_EQ(loss_denominator(batch.weight_sum()), 0.6875) << "a sum below 1 is a denominator too";
}

TEST(OrderTest, IsAPermutationForAnySeedAndCount) {
  const Random random(/*seed=*/11, /*stream=*/1);
  for (std::uint64_t draw = 0; draw < 40; ++draw) {
    const auto count = static_cast<std::int64_t>(draw < 10 ? draw : 1 + random.uniform_int(3000, draw));
    const std::uint64_t seed = random.bits(100 + draw), epoch = random.uniform_int(1000, 200 + draw);
    const ShuffledOrder order(count, seed, "data.order"), other_name(count, seed, "data.sequence_order"),
        other_seed(count, seed + 1, "data.order");
    std::vector<bool> seen(static_cast<std::size_t>(count));
    std::int64_t fixed = 0, same_epoch = 0, same_name = 0, same_seed = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t item = order.at(epoch, i);
      ASSERT_TRUE(item >= 0 && item < count) << "count " << count << " seed " << seed;
      ASSERT_FALSE(seen[static_cast<std::size_t>(item)])
          << "twice: " << item << ", count " << count << " seed " << seed;
      seen[static_cast<std::size_t>(item)] = true;
      fixed += item == i, same_epoch += item == order.at(epoch + 1, i);
      same_name += item == other_name.at(epoch, i), same_seed += item == other_seed.at(epoch, i);
    }
    // Two random permutations agree at one position on average; at more than 20 once in 10^19.
    for (const std::int64_t same : {fixed, same_epoch, same_name, same_seed})
      if (count > 100) {
        EXPECT_LE(same, 20) << "count " << count << " seed " << seed;
      }
    expect_error(Fault::kBug, {"outside the epoch"}, [&] { order.at(epoch, count); });
  }
}

TEST(MixtureTest, IndexesEachSourcesSequencesInOrderWithoutGapsAndSpreadsThem) {
  const Random random(/*seed=*/12, /*stream=*/1);
  for (std::uint64_t draw = 0; draw < 60; ++draw) {
    std::vector<int> shares(1 + random.uniform_int(5, 10 * draw));
    std::int64_t total = 0;
    for (std::size_t s = 0; s < shares.size(); ++s)
      total += shares[s] = 1 + static_cast<int>(random.uniform_int(30, 10 * draw + 1 + s));
    const Mixture mixture(shares);
    ASSERT_EQ(mixture.sources(), shares.size());
    std::vector<std::uint64_t> next(shares.size(), 0);
    for (std::uint64_t sequence = 0; sequence < 3 * static_cast<std::uint64_t>(total) + 5; ++sequence) {
      for (std::size_t s = 0; s < shares.size(); ++s) {
        ASSERT_EQ(mixture.count(s, sequence), next[s]) << "sequence " << sequence << " source " << s;
        const double per_rank = static_cast<double>(sequence) * shares[s] / static_cast<double>(total);
        ASSERT_LT(std::abs(static_cast<double>(next[s]) - per_rank), static_cast<double>(shares.size()));
      }
      const SourceSequence from = mixture.at(sequence);
      ASSERT_LT(from.source, shares.size());
      ASSERT_EQ(from.index, next[from.source]++) << "sequence " << sequence << " source " << from.source;
    }
  }
  EXPECT_EQ(Mixture({1}).at(12345), (SourceSequence{0, 12345})) << "one source has every sequence";
  for (const std::vector<int>& shares : {std::vector<int>{}, {0}, {1, -1}, {1 << 20, 1}})
    expect_error(Fault::kBug, {"Mixture"}, [&] { const Mixture refused(shares); });
}

TEST_F(LoaderTest, ARestartAtAnyStepGivesTheSameBatchesOnAnyNumberOfRanks) {
  constexpr int kBatch = 8, kSteps = 6, kTokens = 64;
  const log::QuietScope quiet;
  const auto read_step = [](Loader& loader, int step, int ranks) {
    const std::uint64_t first = loader.next_sequences(kBatch, step);
    std::vector<Batch> parts;
    for (int rank = 0; rank < ranks; ++rank)
      parts.push_back(loader.sequences(first + static_cast<std::uint64_t>(rank * kBatch / ranks), kBatch / ranks));
    return concatenate(parts);
  };
  Loader reference(*corpus_, Split::kTrain, {}, kTokens, 3);
  ASSERT_LT(reference.sequences_per_epoch(), kSteps * kBatch) << "an epoch is to end on the way";
  std::vector<std::string> expected;
  for (int step = 1; step <= kSteps; ++step) expected.push_back(batch_hash(read_step(reference, step, 1)));
  for (const int before : {1, 2, 4})
    for (const int after : {1, 2, 8})
      for (int stop = 0; stop < kSteps; ++stop) {
        Loader first_run(*corpus_, Split::kTrain, {}, kTokens, 3), second_run(*corpus_, Split::kTrain, {}, kTokens, 3);
        for (int step = 1; step <= stop; ++step) read_step(first_run, step, before);
        second_run.restore(first_run.state());
        for (int step = stop + 1; step <= kSteps; ++step)
          ASSERT_EQ(batch_hash(read_step(second_run, step, after)), expected[static_cast<std::size_t>(step) - 1])
              << before << " ranks stopped after step " << stop << ", " << after << " ranks went on; step " << step;
      }
}

TEST_F(LoaderTest, AStopAndARestoreContinueWithTheNextSequence) {
  Loader before(*corpus_, Split::kTrain, {}, 11, 3);
  before.next_sequences(5, 1);
  const Json saved = parse_json(to_line(before.state()), FileLocation{"state"}, Fault::kData);
  Loader after(*corpus_, Split::kTrain, {}, 11, 3);
  after.restore(saved);
  EXPECT_EQ(after.next_sequences(2, 2), 5u);
  EXPECT_EQ(after.cursor(), 7u);

  Loader other_seed(*corpus_, Split::kTrain, {}, 11, 4), other_length(*corpus_, Split::kTrain, {}, 12, 3);
  Loader other_packing(*corpus_, Split::kTrain, {.packing = "stream"}, 11, 3);
  expect_error(Fault::kData, {"seed"}, [&] { other_seed.restore(saved); });
  expect_error(Fault::kData, {"tokens_per_sequence"}, [&] { other_length.restore(saved); });
  expect_error(Fault::kData, {"packing"}, [&] { other_packing.restore(saved); });
  Json other_data = saved;
  other_data["corpus_sha256"] = "0";
  expect_error(Fault::kData, {"corpus_sha256"}, [&] { after.restore(other_data); });
}

TEST_F(LoaderTest, AnotherRunGoesOnNearAPositionThatIsNotItsOwn) {
  Loader before(*corpus_, Split::kTrain, {}, /*tokens_per_sequence=*/8, /*seed=*/3);
  const auto per_epoch = static_cast<int>(before.sequences_per_epoch());
  before.next_sequences(per_epoch + 5, 1);
  const Json saved = before.state();

  Loader same(*corpus_, Split::kTrain, {.packing = "stream"}, 8, 3);
  EXPECT_NE(same.restore_nearest(saved).find("from the parent's position"), std::string::npos);
  EXPECT_EQ(same.cursor(), before.cursor());

  Loader longer(*corpus_, Split::kTrain, {}, 16, 3), other_seed(*corpus_, Split::kTrain, {}, 8, 4);
  EXPECT_NE(longer.restore_nearest(saved).find("as far into epoch 2"), std::string::npos);
  EXPECT_EQ(longer.cursor(), static_cast<std::uint64_t>(longer.sequences_per_epoch()) + 2);  // 5 x 8 of 16 tokens
  EXPECT_NE(other_seed.restore_nearest(saved).find("another order"), std::string::npos);
  EXPECT_EQ(other_seed.cursor(), before.cursor());

  Json other_corpus = saved, damaged = saved;
  other_corpus["corpus_sha256"] = "0";
  EXPECT_NE(same.restore_nearest(other_corpus).find("from its beginning"), std::string::npos);
  EXPECT_EQ(same.cursor(), 0U);
  damaged.erase("sources");
  expect_error(Fault::kData, {"another version"}, [&] { same.restore_nearest(damaged); });
}

TEST_F(LoaderTest, SaysOnceWhenAnEpochBeginsOrEndsTheRunAsAsked) {
  Loader wraps(*corpus_, Split::kTrain, {.on_end = "wrap"}, 11, 3);
  const auto per_epoch = static_cast<int>(wraps.sequences_per_epoch());
  testing::internal::CaptureStderr();
  wraps.next_sequences(per_epoch, 1);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  testing::internal::CaptureStderr();
  wraps.next_sequences(1, 2);
  const std::string message = testing::internal::GetCapturedStderr();
  EXPECT_NE(message.find("data: epoch 2 begins at step 2"), std::string::npos) << message;
  testing::internal::CaptureStderr();
  wraps.next_sequences(per_epoch - 1, 3);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");

  Loader ends(*corpus_, Split::kTrain, {.on_end = "error"}, 11, 3);
  ends.next_sequences(per_epoch - 1, 1);
  expect_error(Fault::kData, {"step 2", "only 1", "data.on_end"}, [&] { ends.next_sequences(2, 2); });
  EXPECT_EQ(ends.next_sequences(1, 2), static_cast<std::uint64_t>(per_epoch - 1))
      << "what is refused must not move the cursor";
}

TEST_F(LoaderTest, ThreadsMayAskAtOnce) {
  const Loader loader(*corpus_, Split::kTrain, {}, 17, 3);
  const auto per_epoch = static_cast<std::uint64_t>(loader.sequences_per_epoch());
  const std::string expected = batch_hash(loader.sequences(per_epoch - 2, 5));
  std::vector<std::string> actual(8);
  {
    std::vector<std::jthread> threads;
    for (std::string& sha : actual)
      threads.emplace_back(
          [&] { sha = batch_hash(loader.sequences(per_epoch - 2, 5)), loader.sequences(7 * per_epoch, 3); });
  }
  for (const std::string& sha : actual) EXPECT_EQ(sha, expected);
  EXPECT_NE(batch_hash(loader.sequences(per_epoch - 1, 5)), expected);
}

TEST_F(LoaderTest, RefusesSettingsThatCannotBe) {
  expect_error(Fault::kConfig, {"data.packing", "documents or stream"},
               [] { Loader(*corpus_, Split::kTrain, {.packing = "tight"}, 8, 1); });
  expect_error(Fault::kConfig, {"data.on_end", "wrap or error"},
               [] { Loader(*corpus_, Split::kTrain, {.on_end = "stop"}, 8, 1); });
  const std::string rows = folder_->write_file("one.jsonl", "{\"text\":\"one\"}\n");
  prepare_corpus({{rows}}, {.validation_fraction = 0}, byte_tokenizer(), *folder_ / "train-only");
  const Corpus train_only = Corpus::open(*folder_ / "train-only");
  expect_error(Fault::kData, {"no validation documents", "--data.validation_fraction"},
               [&] { Loader(train_only, Split::kValidation, {}, 8, 0); });
}

}  // namespace
}  // namespace slipway
