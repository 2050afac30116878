#include "kernels/sample.hpp"

#include <bit>
#include <cmath>

#include "kernels/checks.hpp"
#include "kernels/cuda/ops.cuh"
#include "kernels/cuda/rows.cuh"

// One block samples a row by radix select, without sorting: among the tokens whose sort key has the digits selected so
// far, it sums the weights (or counts) per next digit, and selects the digit at which the cumulative sum passes the
// target.
namespace slipway::cuda {
namespace {

constexpr int kDrawThreads = 512;
constexpr int kDrawWarps = kDrawThreads / kWarpSize;
constexpr int kDigitBits = 3;
constexpr int kDigits = 1 << kDigitBits;

// A sort key: the logit as an integer of the same order, above the complement of the token's id. The largest of a row
// is the most likely token, or the first whose logit is NaN or +inf. 0: a token that is not allowed.
using LogitKey = std::uint64_t;
constexpr std::uint32_t kInvalidLogit = 0xffffffffu;  // of NaN and +inf

__device__ std::uint32_t id_of(LogitKey key) { return ~static_cast<std::uint32_t>(key); }

__device__ LogitKey logit_key(float logit, bool allowed, int v) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(logit + 0.0f);  // -0 is 0
  const bool is_invalid = !(logit < __builtin_inff());
  if (!is_invalid && !allowed) return 0;
  const std::uint32_t ordered = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return LogitKey{is_invalid ? kInvalidLogit : ordered} << 32 | static_cast<std::uint32_t>(~v);
}

// A weight as an integer of the same order: its bits, of which the two highest are 0, shifted to the digits' end.
using Key = std::uint64_t;
constexpr Key kForbidden = ~Key{0};
constexpr int kKeyDigits = 21, kIdDigits = 11;  // 63 and 33 bits

__device__ Key key_of(double weight) { return std::bit_cast<std::uint64_t>(weight) << 1; }
__device__ double weight_of(Key key) { return std::bit_cast<double>(key >> 1); }

/// The sort key of a token in the order of the draw, descending: by weight, then by ascending id.
struct SortKey {
  Key key;
  std::uint32_t not_id;  ///< complement of its id

  __device__ int digit(int index) const {
    const std::uint64_t word = index < kKeyDigits ? key : not_id;
    const int after = index < kKeyDigits ? kKeyDigits - 1 - index : kKeyDigits + kIdDigits - 1 - index;
    return static_cast<int>(word >> (kDigitBits * after)) & (kDigits - 1);
  }
  __device__ bool precedes(const SortKey& other) const {
    return key != other.key ? key > other.key : not_id > other.not_id;
  }
  __device__ int id() const { return static_cast<int>(~not_id); }
};

/// The leading digits selected so far.
struct Prefix {
  SortKey digits{}, mask{};

  __device__ bool matches(const SortKey& token) const {
    return ((token.key ^ digits.key) & mask.key) == 0 && ((token.not_id ^ digits.not_id) & mask.not_id) == 0;
  }
  __device__ void add(int index, int digit) {
    const bool in_weight_key = index < kKeyDigits;
    const int shift = kDigitBits * (in_weight_key ? kKeyDigits - 1 - index : kKeyDigits + kIdDigits - 1 - index);
    const std::uint64_t value = static_cast<std::uint64_t>(digit) << shift, ones = std::uint64_t{kDigits - 1} << shift;
    if (in_weight_key) digits.key |= value, mask.key |= ones;
    else digits.not_id |= static_cast<std::uint32_t>(value), mask.not_id |= static_cast<std::uint32_t>(ones);
  }
};

struct Or {
  __device__ std::uint64_t operator()(std::uint64_t a, std::uint64_t b) const { return a | b; }
};

/// The tokens of a row, searched by one block.
struct Row {
  const Key* key_V;
  int V;
  SortKey reference, diff_mask;  ///< the key of weight 1 and id 0, and the bits in which any token differs from it

  __device__ Row(const Key* keys, int count) : key_V(keys), V(count), reference{key_of(1.0), ~0u}, diff_mask{0, 0} {
    for_each([&](const SortKey& token) {
      diff_mask.key |= token.key ^ reference.key, diff_mask.not_id |= token.not_id ^ reference.not_id;
    });
    diff_mask.key = BlockTeam<kDrawThreads>{}.reduce(diff_mask.key, Or{});
    diff_mask.not_id =
        static_cast<std::uint32_t>(BlockTeam<kDrawThreads>{}.reduce(std::uint64_t{diff_mask.not_id}, Or{}));
  }

  /// `fn(token)` for each of this thread's allowed tokens.
  template <class Fn>
  __device__ void for_each(const Fn& fn) const {
    for (int v = static_cast<int>(threadIdx.x); v < V; v += kDrawThreads)
      if (const Key key = key_V[v]; key != kForbidden) fn(SortKey{key, static_cast<std::uint32_t>(~v)});
  }

  /// The weight of all tokens up to `last`, in the order of the draw.
  __device__ double weight_up_to(const SortKey& last) const {
    double sum = 0;
    for_each([&](const SortKey& token) { sum += last.precedes(token) ? 0.0 : weight_of(token.key); });
    return BlockTeam<kDrawThreads>{}.reduce(sum, Plus{});
  }

  struct Selection {
    SortKey token;
    double cumulative;  ///< cumulative sum, the token included
  };
  /// The first token at which the cumulative sum, of weights or (without `weights`) of 1 per token, is above `target`,
  /// or with `inclusive` at least `target`; the last token with a weight where rounding leaves the total below it.
  __device__ Selection find(bool weights, double target, bool inclusive) const {
    constexpr int kSlots = kDigits * kDrawThreads;
    SLIPWAY_SHARED(double, digit_sums, kSlots);           // one per digit and thread
    SLIPWAY_SHARED(unsigned char, digit_counts, kSlots);  // 0, 1, or 2 for more
    SLIPWAY_SHARED(double, sums, kDigits);
    SLIPWAY_SHARED(int, tokens, kDigits);
    SLIPWAY_SHARED(SortKey, selected, 1);
    const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarpSize;
    const auto token_weight = [=](Key key) { return weights ? weight_of(key) : 1.0; };
    Prefix prefix;
    double preceding = 0;  // cumulative sum before the tokens of the prefix
    bool is_unique = false;
    for (int index = 0; index < kKeyDigits + kIdDigits && !is_unique; ++index) {
      if (diff_mask.digit(index) == 0) {
        prefix.add(index, reference.digit(index));
        continue;
      }
      for (int digit = 0; digit < kDigits; ++digit)
        digit_sums[digit * kDrawThreads + thread] = 0, digit_counts[digit * kDrawThreads + thread] = 0;
      for_each([&](const SortKey& token) {
        if (!prefix.matches(token)) return;
        const int slot = token.digit(index) * kDrawThreads + thread;
        digit_sums[slot] += token_weight(token.key);
        digit_counts[slot] = digit_counts[slot] == 0 ? 1 : 2;
      });
      __syncthreads();
      if (warp < kDigits) {  // one warp reduces one digit
        double sum = 0;
        int count = 0;
        for (int i = thread % kWarpSize; i < kDrawThreads; i += kWarpSize)
          sum += digit_sums[warp * kDrawThreads + i], count += digit_counts[warp * kDrawThreads + i];
        sum = reduce_warp(sum, Plus{}), count = reduce_warp(count, Plus{});
        if (thread % kWarpSize == 0) sums[warp] = sum, tokens[warp] = count;
      }
      __syncthreads();
      int chosen_digit = 0;
      double cumulative = preceding;
      for (int digit = kDigits - 1; digit >= 0; --digit) {
        if (sums[digit] == 0) continue;
        chosen_digit = digit, preceding = cumulative, cumulative += sums[digit];
        if (cumulative > target || (inclusive && cumulative == target)) break;
      }
      prefix.add(index, chosen_digit);
      is_unique = tokens[chosen_digit] == 1;
    }
    for_each([&](const SortKey& token) {
      if (prefix.matches(token)) selected[0] = token;
    });
    __syncthreads();
    const SortKey token = selected[0];
    __syncthreads();  // `selected` has been read before another search writes to it
    return {token, preceding + token_weight(token.key)};
  }
};
static_assert(kDrawWarps >= kDigits);

/// The largest key of each chunk of each row.
__global__ void __launch_bounds__(kBlockThreads) max_chunks(const Sample op, int chunks, LogitKey* max_BS) {
  const int b = static_cast<int>(blockIdx.x) / chunks, V = op.logits_BV.cols;
  const int first = static_cast<int>(blockIdx.x) % chunks * static_cast<int>(kChunk);
  const int end = V - first < static_cast<int>(kChunk) ? V : first + static_cast<int>(kChunk);
  const float* logit_V = op.logits_BV.row(b);
  const std::uint8_t* allowed_V = op.allowed(b);
  LogitKey best = 0;
  for (int v = first + static_cast<int>(threadIdx.x); v < end; v += kBlockThreads)
    best = Max{}(best, logit_key(logit_V[v], allowed_V == nullptr || allowed_V[v] != 0, v));
  best = BlockTeam<kBlockThreads>{}.reduce(best, Max{});
  if (threadIdx.x == 0) max_BS[blockIdx.x] = best;
}

/// The largest key of a row, from those of its chunks, by all threads of a block.
template <int kThreads>
__device__ LogitKey max_key(const LogitKey* max_S, int chunks) {
  LogitKey best = 0;
  for (int i = static_cast<int>(threadIdx.x); i < chunks; i += kThreads) best = Max{}(best, max_S[i]);
  return BlockTeam<kThreads>{}.reduce(best, Max{});
}

__device__ bool is_invalid_key(LogitKey key) { return static_cast<std::uint32_t>(key >> 32) == kInvalidLogit; }

/// The key of every token's weight, by chunks; nothing is written for a row without a most likely token.
__global__ void __launch_bounds__(kBlockThreads)
    weigh_chunks(const Sample op, int chunks, const LogitKey* max_BS, Key* key_BV) {
  const int b = static_cast<int>(blockIdx.x) / chunks, V = op.logits_BV.cols;
  const LogitKey best = max_key<kBlockThreads>(max_BS + std::int64_t{b} * chunks, chunks);
  if (best == 0 || is_invalid_key(best)) return;
  const int first = static_cast<int>(blockIdx.x) % chunks * static_cast<int>(kChunk);
  const int end = V - first < static_cast<int>(kChunk) ? V : first + static_cast<int>(kChunk);
  const float* logit_V = op.logits_BV.row(b);
  const std::uint8_t* allowed_V = op.allowed(b);
  const float max_logit = logit_V[id_of(best)];
  Key* key_V = key_BV + std::int64_t{b} * V;
  for (int v = first + static_cast<int>(threadIdx.x); v < end; v += kBlockThreads)
    key_V[v] = allowed_V != nullptr && allowed_V[v] == 0
                   ? kForbidden
                   : key_of(exp(static_cast<double>(logit_V[v] - max_logit) / op.temperature));
}

/// The token of each row; one block per row.
__global__ void __launch_bounds__(kDrawThreads, 1)
    choose_tokens(const Sample op, int chunks, const LogitKey* max_BS, const Key* key_BV) {
  const int b = static_cast<int>(blockIdx.x), V = op.logits_BV.cols;
  const LogitKey best = max_key<kDrawThreads>(max_BS + std::int64_t{b} * chunks, chunks);
  int token = static_cast<int>(id_of(best));
  if (best == 0) token = V;
  else if (is_invalid_key(best)) token = -1 - token;
  else if (op.is_random() && op.logits_BV.row(b)[token] != -__builtin_inff()) {
    const Row row{key_BV + std::int64_t{b} * V, V};
    SortKey last{};  // the last token that may be drawn; initially after all tokens
    if (op.top_k > 0 && op.top_k < V) last = row.find(/*weights=*/false, op.top_k, /*inclusive=*/true).token;
    double kept_weight = row.weight_up_to(last);
    if (op.top_p < 1) {
      const Row::Selection nucleus = row.find(/*weights=*/true, op.top_p * kept_weight, /*inclusive=*/true);
      if (nucleus.token.precedes(last)) last = nucleus.token, kept_weight = nucleus.cumulative;
    }
    const SortKey drawn = row.find(/*weights=*/true, op.uniform_B[b] * kept_weight, /*inclusive=*/false).token;
    token = last.precedes(drawn) ? last.id() : drawn.id();
  }
  if (threadIdx.x == 0) op.id_B[b] = token;
}

}  // namespace

void sample(Stream& stream, const Sample& op) {
  check(op);
  CudaStream& queue = cuda_stream_of(stream);
  const int rows = op.logits_BV.rows, V = op.logits_BV.cols;
  const int chunks = static_cast<int>(ceil_div(static_cast<std::size_t>(V), kChunk));
  const std::size_t maxima = static_cast<std::size_t>(rows) * static_cast<std::size_t>(chunks);
  static_assert(std::is_same_v<LogitKey, Key>);
  LogitKey* max_BS = queue.scratch_for<LogitKey>(op);
  Key* key_BV = max_BS + maxima;
  const std::int64_t blocks = std::int64_t{rows} * chunks;
  launch({.name = "sample", .blocks = blocks, .threads = kBlockThreads}, max_chunks, queue.stream(), op, chunks,
         max_BS);
  if (op.is_random())
    launch({.name = "sample", .blocks = blocks, .threads = kBlockThreads}, weigh_chunks, queue.stream(), op, chunks,
           max_BS, key_BV);
  launch({.name = "sample", .blocks = rows, .threads = kDrawThreads}, choose_tokens, queue.stream(), op, chunks, max_BS,
         key_BV);
}

}  // namespace slipway::cuda
