#include "src/infer/score.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/cross_entropy.hpp"
#include "src/core/allocation_tag.hpp"
#include "src/core/log.hpp"
#include "src/core/words.hpp"

namespace slipway {
namespace {

constexpr int kMaxRows = 512;        // per pass; matmuls reach full speed from here on
constexpr int kMaxLogits = 1 << 24;  // 64 MiB; limits the rows for a large vocabulary
constexpr int kMinRows = 32;

/// Computes the loss of the id that follows each row of logits in the backend's memory.
class TokenLosses {
 public:
  explicit TokenLosses(const Backend& backend) : backend_(backend) {}

  /// Sets `losses[r]` to the loss of `targets[r]` under row r, in nats. Shapes: logits [R, V]; targets and
  /// losses [N], N <= R.
  void operator()(Matrix<const float> logits_RV, std::span<const int> targets, std::span<std::optional<float>> losses) {
    const int rows = static_cast<int>(targets.size());
    if (rows == 0) return;
    MemorySpace& space = *backend_.memory;
    partials_.reserve(targets.size(), space);
    merged_.resize(targets.size());
    backend_.softmax_partials(stream_, {.logits_RV = logits_RV.view_rows(0, rows),
                                        .target_R = targets_.upload(targets, space),
                                        .valid_cols = logits_RV.cols,
                                        .partial_R = partials_.data()});
    backend_.merge_partials(stream_, {.partials = partials_.data(),
                                      .count = 1,
                                      .stride = rows,
                                      .rows = rows,
                                      .merged_R = merged_device_.buffer_for(merged_, space)});
    merged_device_.finish();
    for (std::size_t r = 0; r < targets.size(); ++r) losses[r] = merged_[r].max - merged_[r].target;
  }

 private:
  const Backend& backend_;
  Stream stream_ = backend_.main_stream();
  StagedUpload<int> targets_;
  Buffer<SoftmaxPartial> partials_;
  std::vector<SoftmaxPartial> merged_;
  StagedDownload<SoftmaxPartial> merged_device_;
};

}  // namespace

std::vector<std::optional<float>> token_nll(Model& model, std::span<const int> ids, int window,
                                            const LogitsSink& on_logits) {
  if (window < 2)
    throw Error(Fault::kConfig,
                join("a window of ", window, " tokens scores none of them; --context takes at least 2"));
  const int N = static_cast<int>(ids.size()), V = model.spec().vocabulary;
  window = std::min(window, std::max(N, 1));
  const int max_rows = std::clamp(kMaxLogits / V, kMinRows, kMaxRows);
  std::vector<std::optional<float>> losses(ids.size());
  InferenceState state = model.make_state(1, window);
  MemorySpace& space = *model.backend().memory;
  const AllocationTag tag(MemoryKind::kLogits, "the logits of", std::min(max_rows, window), "tokens");
  Buffer<float> logits(static_cast<std::size_t>(std::min(max_rows, window)) * static_cast<std::size_t>(V), space);
  std::vector<float> row(on_logits ? static_cast<std::size_t>(V) : 0);  // on the host
  TokenLosses token_losses(model.backend());
  log::Progress progress("scoring");
  for (int window_begin = 0; window_begin < N; window_begin += window) {
    const int window_end = std::min(N, window_begin + window);
    state.rewind(0);
    for (int first = window_begin; first < window_end; first += max_rows) {
      const int rows = std::min(max_rows, window_end - first);
      const Matrix<float> logits_RV = logits.matrix(rows, V);
      model.infer(ids.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(rows)), state, logits_RV,
                  /*last_only=*/false);
      // The last row of a window predicts the first id of the next window, which is not scored.
      const auto target_count = static_cast<std::size_t>(std::min(rows, window_end - 1 - first)),
                 first_target = static_cast<std::size_t>(first) + 1;
      const std::span<std::optional<float>> chunk_losses =
          std::span(losses).subspan(std::min(first_target, ids.size()), target_count);
      token_losses(logits_RV, ids.subspan(std::min(first_target, ids.size()), target_count), chunk_losses);
      const auto bad = std::ranges::find_if(chunk_losses, [](const auto& loss) { return !std::isfinite(*loss); });
      if (bad != chunk_losses.end())
        throw Error(Fault::kNumeric,
                    join("the loss of token ", first_target + static_cast<std::size_t>(bad - chunk_losses.begin()),
                         " of the text is ", **bad, "; the weights are damaged: run slipway qa"));
      for (int r = 0; on_logits && r < rows; ++r) {
        space.read(row.data(), logits_RV.row(r), row.size() * sizeof(float));
        on_logits(row);
      }
      progress(first + rows, N);
    }
  }
  return losses;
}

double Score::bits_per_byte() const { return loss_sum / std::numbers::ln2 / static_cast<double>(scored_bytes); }

Score make_score(const Tokenizer& tokenizer, std::vector<int> ids, std::vector<std::optional<float>> losses) {
  Score score{.ids = std::move(ids), .losses = std::move(losses)};
  for (std::size_t i = 0; i < score.ids.size(); ++i) {
    if (!score.losses[i]) continue;
    ++score.scored_tokens;
    score.scored_bytes += static_cast<std::int64_t>(tokenizer.decode(std::span(&score.ids[i], 1)).size());
    score.loss_sum += static_cast<double>(*score.losses[i]);
  }
  if (score.scored_tokens == 0)
    throw Error(Fault::kData, join("the text has ", pluralize(score.ids.size(), "token"),
                                   ", and the first one of a window is never scored; give at least 2"));
  return score;
}

}  // namespace slipway
