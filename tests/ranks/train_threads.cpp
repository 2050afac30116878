// Whole training steps with ranks as threads: the same bits on 1, 2 and 4 data ranks, the same story on tensor ranks.
#include <gtest/gtest.h>

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <thread>

#include "kernels/backend/cpu_backend.hpp"
#include "kernels/backend/runtime.hpp"
#include "src/core/log.hpp"
#include "src/core/random.hpp"
#include "src/data/prepare.hpp"
#include "src/infer/session.hpp"
#include "src/train/trainer.hpp"
#include "tests/support/tiny_tokenizer.hpp"

namespace slipway {
namespace {

constexpr int kSteps = 4;

class TrainThreadsTest : public testing::Test {
 protected:
  TrainThreadsTest() : folder_(std::filesystem::temp_directory_path() / join("slipway-train-", ::getpid())) {
    std::filesystem::create_directories(folder_);
    std::ofstream text(folder_ / "text.txt");
    const Random random(3, stream_of("text"));
    for (std::uint64_t i = 0; i < 3000; ++i)
      text << "the thing in a ring " << random.uniform_int(50, i) << (i % 7 == 0 ? "\n" : " ");
    text.close();
    const log::QuietScope quiet;
    PrepareConfig prepare{.threads = 1};
    prepare.text.document_bytes = 700;
    prepare_corpus({.paths = {(folder_ / "text.txt").string()}}, prepare, test::tiny_tokenizer(271), folder_ / "data");
    corpus_.emplace(Corpus::open(folder_ / "data"));
    config_.model = {.preset = "llama-1m", .shape = {.layers = 2, .width = 24, .heads = 3, .kv_heads = 3, .ffn = 20}};
    config_.train.steps = kSteps;
    config_.train.sequence = 17;
    config_.train.batch = 8;
    config_.numerics.compute = "f32";
    config_.reporting.validate_tokens = 200;
    config_.resolve(100);
    backend_.threads = 1;
  }
  ~TrainThreadsTest() override { std::filesystem::remove_all(folder_); }

  struct Outcome {
    std::vector<double> losses, norms;
    double val_loss = 0;
    std::vector<float> weights;  // of tensor rank 0 of data rank 0
    std::vector<Parameter> parameters;
    /// By tensor and kind of number: elements that a checkpoint of all ranks has.
    std::map<std::pair<std::string, std::string>, std::int64_t> saved;
  };

  /// This tensor rank's, from the ranks that own them; what ops read must be those, without having been asked for.
  static std::vector<float> checked_weights(Model& model, Mesh& mesh) {
    Parameters& parameters = model.parameters();
    const std::span<float> values = parameters.values(), trained = values.first(parameters.trainable_size());
    const std::span<const Bf16> copy = parameters.compute_copy(0, values.size());
    const std::vector<float> initial(values.begin(), values.end());
    std::vector<std::uint16_t> compute_bits;
    for (const Bf16 number : copy) compute_bits.push_back(number.bits);
    mesh.data->all_gather_shards(trained);
    model.update_compute_copy();
    for (std::size_t i = 0; i < copy.size(); ++i)
      if (copy[i].bits != compute_bits[i]) throw Error(Fault::kBug, "the bf16 copy is not that of the owners' weights");
    for (const auto& [first, end] : parameters.f32_ranges())
      if (!std::equal(initial.begin() + static_cast<std::ptrdiff_t>(first),
                      initial.begin() + static_cast<std::ptrdiff_t>(end),
                      values.begin() + static_cast<std::ptrdiff_t>(first)))
        throw Error(Fault::kBug, "what is read in f32 is not the owners'");
    if (copy.empty() && !std::equal(initial.begin(), initial.end(), values.begin()))
      throw Error(Fault::kBug, "weights are not the owners'");
    return {values.begin(), values.end()};
  }

  /// What a parameter began with, on one rank.
  std::vector<float> initial_values(const Parameter& p) const {
    const std::unique_ptr<Group> self = make_self_group();
    Model model(config_.model.spec(corpus_->tokenizer().vocabulary_size()), backend_, *self, {});
    model.parameters().initialize(config_.train.seed);
    const Matrix<float> values = model.parameters().value(model.parameters().find(p.name));
    return {values.data, values.data + values.size()};
  }

  /// Trains on `data` x `tensor` threads.
  Outcome train(int data, int tensor) {
    RunConfig config = config_;
    config.parallel.tensor = tensor;
    Outcome outcome;
    std::mutex mutex;
    decltype(Outcome::saved) saved;
    run_thread_group(data * tensor, [&](Group& world_group) {
      Mesh mesh = make_thread_mesh(world_group, tensor);
      Model model(config.model.spec(corpus_->tokenizer().vocabulary_size()), backend_, *mesh.tensor,
                  {.compute_dtype = config.compute_dtype(),
                   .slots = config.numerics.slots,
                   .recompute = config.recompute(),
                   .frozen = frozen_});
      model.parameters().initialize(config.train.seed);
      model.update_compute_copy();
      Loader loader(*corpus_, Split::kTrain, config.data, config.train.sequence, config.train.seed);
      const Loader validation(*corpus_, Split::kValidation, config.data, config.train.sequence, 0);
      Trainer trainer(config, model, backend_, loader, &validation, mesh, world_group);
      Outcome outcome_of_rank;
      for (int step = 0; step < kSteps; ++step) {
        trainer.step();
        if (after_step_) after_step_();
        const StepReport report = trainer.report();
        outcome_of_rank.losses.push_back(report.loss);
        outcome_of_rank.norms.push_back(report.grad_norm);
      }
      outcome_of_rank.val_loss = trainer.validate();
      outcome_of_rank.weights = checked_weights(model, mesh);
      const auto all_parameters = model.parameters().all();
      outcome_of_rank.parameters = {all_parameters.begin(), all_parameters.end()};
      const std::vector<SliceView> slices = trainer.slices();
      {
        const std::scoped_lock lock(mutex);
        for (const SliceView& one : slices) saved[{one.tensor, one.kind}] += one.extent[0] * one.extent[1];
      }
      if (world_group.rank() == 0) outcome = outcome_of_rank;
      if (data > 1 && tensor == 1) {  // every rank reports the same, and holds the same weights
        std::vector<double> first = outcome_of_rank.losses;
        world_group.broadcast(first.data(), first.size() * sizeof(double), 0);
        if (first != outcome_of_rank.losses) throw Error(Fault::kBug, "ranks report different losses");
        std::vector<float> weights = outcome_of_rank.weights;
        world_group.broadcast(weights.data(), weights.size() * sizeof(float), 0);
        if (weights != outcome_of_rank.weights) throw Error(Fault::kBug, "ranks hold different weights");
      }
    });
    outcome.saved = saved;
    return outcome;
  }

  std::filesystem::path folder_;
  std::optional<Corpus> corpus_;
  Backend backend_ = *all_backends().front();
  RunConfig config_;
  std::function<bool(const Parameter&)> frozen_;
  std::function<void()> after_step_;
};

TEST_F(TrainThreadsTest, OneTwoAndFourDataRanksGiveTheSameBits) {
  for (const auto& [optimizer, compute] : {std::pair{"AdamW", "f32"}, {"Muon", "f32"}, {"Muon", "bf16"}}) {
    config_.optim.name = optimizer;
    config_.numerics.compute = compute;
    const Outcome one = train(1, 1);
    if (!config_.optim.is_muon()) {
      EXPECT_LT(one.losses.back(), one.losses.front());  // the first steps of Muon are a fifth as long
    }
    for (const int ranks : {2, 4}) {
      const std::string context = join(optimizer, " in ", compute, " on ", ranks, " ranks");
      const Outcome other = train(ranks, 1);
      EXPECT_EQ(one.losses, other.losses) << context;
      EXPECT_EQ(one.norms, other.norms) << context;
      EXPECT_EQ(one.val_loss, other.val_loss) << context;
      EXPECT_EQ(one.weights, other.weights) << context;
    }
  }
}

class TensorRanksTest : public TrainThreadsTest, public testing::WithParamInterface<const char*> {};

TEST_P(TensorRanksTest, FollowOneRank) {
  constexpr double kTolerance = 1e-4;  // the promise of docs/numerics.md for f32
  config_.optim.name = GetParam();
  const Outcome one = train(1, 1);
  for (const auto& [data, tensor] : {std::pair{1, 2}, {2, 2}, {1, 3}}) {
    const Outcome other = train(data, tensor);
    for (int step = 0; step < kSteps; ++step)
      EXPECT_NEAR(one.losses[static_cast<std::size_t>(step)], other.losses[static_cast<std::size_t>(step)], kTolerance)
          << data << " x " << tensor;
    EXPECT_NEAR(one.val_loss, other.val_loss, kTolerance) << data << " x " << tensor;
  }
}

INSTANTIATE_TEST_SUITE_P(Optimizers, TensorRanksTest, testing::Values("AdamW", "Muon"),
                         [](const auto& tested) { return std::string(tested.param); });

TEST_F(TrainThreadsTest, RecomputationChangesNoBit) {
  for (const int tensor : {1, 2}) {
    config_.train.recompute = "none";
    const Outcome baseline = train(1, tensor);
    for (const char* recompute_mode : {"norms", "blocks"}) {
      config_.train.recompute = recompute_mode;
      EXPECT_EQ(baseline.weights, train(1, tensor).weights) << recompute_mode << " on " << tensor << " tensor ranks";
    }
  }
}

TEST_F(TrainThreadsTest, FrozenParametersStayAsTheyAreOnAnyNumberOfRanks) {
  const auto frozen = [](const Parameter& p) { return p.component == "attention" || p.name == "output_norm.weight"; };
  for (const auto& [optimizer, compute] : {std::pair{"AdamW", "f32"}, {"AdamW", "bf16"}, {"Muon", "bf16"}}) {
    config_.optim.name = optimizer;
    config_.numerics.compute = compute;
    frozen_ = nullptr;
    const Outcome unfrozen = train(1, 1);
    frozen_ = frozen;
    const Outcome one = train(1, 1);
    EXPECT_LT(one.norms.front(), unfrozen.norms.front()) << "the norm is that of the trainable parameters";
    EXPECT_NEAR(one.losses.front(), unfrozen.losses.front(), 1e-6);
    for (const Parameter& p : one.parameters) {
      const std::span<const float> weights = std::span(one.weights).subspan(p.offset, p.local_size());
      EXPECT_EQ(std::ranges::equal(weights, initial_values(p)), frozen(p)) << p.name;
    }
    for (const auto& [data, tensor] : {std::pair{1, 1}, {2, 1}, {4, 1}, {2, 2}}) {
      const Outcome other = train(data, tensor);
      for (const Parameter& p : one.parameters) {
        const std::int64_t size = std::int64_t{p.rows} * p.cols;
        EXPECT_EQ(other.saved.at({p.name, "value"}), size) << p.name;
        std::int64_t moments = 0;
        for (const char* kind : {"adam_m", "adam_v", "muon_m"})
          if (const auto found = other.saved.find({p.name, kind}); found != other.saved.end()) moments += found->second;
        EXPECT_EQ(moments, frozen(p) ? 0 : config_.optim.is_muon() && is_hidden_matrix(p) ? size : 2 * size) << p.name;
      }
      if (tensor > 1) continue;
      EXPECT_EQ(one.losses, other.losses) << data;
      EXPECT_EQ(one.norms, other.norms) << data;
      EXPECT_EQ(one.weights, other.weights) << data;
    }
  }
}

/// Another model: of another backend, dtype and reduction.
class OpenedModel {
 public:
  OpenedModel(const ModelSpec& spec, const Backend& backend)
      : backend_(backend),
        self_(make_self_group(Reduction::kLibrary)),
        model_(spec, backend_, *self_, {.compute_dtype = DType::kBf16}),
        session_(model_, /*sequences=*/2, /*capacity=*/12) {
    model_.parameters().initialize(/*seed=*/77);
    model_.update_compute_copy();
  }
  /// The logits after eight tokens, read as a prompt and one by one.
  std::vector<float> read() {
    const std::vector<int> prompt = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, next = {11, 12};
    session_.rewind(0);
    session_.decode(prompt);
    for (int token = 0; token < 3; ++token) session_.decode(next);
    const std::span<const float> logits = session_.logits(1);
    return {logits.begin(), logits.end()};
  }

 private:
  Backend backend_;
  std::unique_ptr<Group> self_;
  Model model_;
  Session session_;
};

TEST_F(TrainThreadsTest, AModelOpenedBesideItChangesNoBit) {
  const ModelSpec spec = config_.model.spec(corpus_->tokenizer().vocabulary_size());
  const Runtime three_threads({.threads = 3});
  Backend base = cpu_backend("base");  // not from a Runtime, which refuses another limit for oneDNN
  base.threads = 3;
  const std::vector<float> logits = OpenedModel(spec, three_threads.backend()).read(),
                           base_logits = OpenedModel(spec, base).read();
  for (const int threads : {1, 2}) {
    backend_ = Runtime({.threads = threads}).backend();
    const Outcome undisturbed = train(1, 1);

    after_step_ = [&] {
      EXPECT_EQ(OpenedModel(spec, three_threads.backend()).read(), logits) << "opened between two steps";
      EXPECT_EQ(OpenedModel(spec, base).read(), base_logits) << "opened between two steps";
    };
    std::atomic<int> reads = 0;
    Outcome concurrent;
    {
      const std::jthread reader([&](const std::stop_token& stop) {  // and all the time
        OpenedModel model(spec, base);
        do {
          EXPECT_EQ(model.read(), base_logits);
          ++reads;
        } while (!stop.stop_requested());
      });
      concurrent = train(1, 1);
    }
    after_step_ = nullptr;
    EXPECT_GT(reads, 0);
    EXPECT_EQ(undisturbed.losses, concurrent.losses) << threads;
    EXPECT_EQ(undisturbed.val_loss, concurrent.val_loss) << threads;
    EXPECT_EQ(undisturbed.weights, concurrent.weights) << threads;
  }
}

TEST_F(TrainThreadsTest, ANaNStopsAllRanksAndNamesTheOneAndTheTensor) {
  config_.fault.nan_step = 2;
  config_.fault.nan_rank = 1;
  try {
    train(2, 1);
    FAIL() << "a NaN in a gradient must stop the run";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::kNumeric);
    for (const char* part : {"step 2", "rank 1", "attn_norm.weight"})
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace slipway
