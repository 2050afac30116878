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

constexpr int kDrawLanes = 512;
constexpr int kDrawWarps = kDrawLanes / kWarpSize;
constexpr int kDigitBits = 3;
constexpr int kDigits = 1 << kDigitBits;

// A sort key: the logit as an integer of the same order, above the complement of the token's id. The largest of a row
// is the most likely token, or the first whose logit is NaN or +inf. 0: a token that is not allowed.
using LogitKey = std::uint64_t;
constexpr std::uint32_t kBad = 0xffffffffu;  // of NaN and +inf

__device__ std::uint32_t id_of(LogitKey key) { return ~static_cast<std::uint32_t>(key); }

__device__ LogitKey logit_key(float logit, bool allowed, int v) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(logit + 0.0f);  // -0 is 0
  const bool bad = !(logit < __builtin_inff());
  if (!bad && !allowed) return 0;
  const std::uint32_t ordered = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return LogitKey{bad ? kBad : ordered} << 32 | static_cast<std::uint32_t>(~v);
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
  __device__ bool before(const SortKey& other) const {
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
    const bool of_key = index < kKeyDigits;
    const int shift = kDigitBits * (of_key ? kKeyDigits - 1 - index : kKeyDigits + kIdDigits - 1 - index);
    const std::uint64_t value = static_cast<std::uint64_t>(digit) << shift, ones = std::uint64_t{kDigits - 1} << shift;
    if (of_key) digits.key |= value, mask.key |= ones;
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
  SortKey one, differ;  ///< the key of weight 1 and id 0, and the bits in which any token differs from it

  __device__ Row(const Key* keys, int count) : key_V(keys), V(count), one{key_of(1.0), ~0u}, differ{0, 0} {
    each([&](const SortKey& token) { differ.key |= token.key ^ one.key, differ.not_id |= token.not_id ^ one.not_id; });
    differ.key = BlockTeam<kDrawLanes>{}.reduce(differ.key, Or{});
    differ.not_id = static_cast<std::uint32_t>(BlockTeam<kDrawLanes>{}.reduce(std::uint64_t{differ.not_id}, Or{}));
  }

  /// `fn(token)` for each of this thread's allowed tokens.
  template <class Fn>
  __device__ void each(const Fn& fn) const {
    for (int v = static_cast<int>(threadIdx.x); v < V; v += kDrawLanes)
      if (const Key key = key_V[v]; key != kForbidden) fn(SortKey{key, static_cast<std::uint32_t>(~v)});
  }

  /// The weight of all tokens up to `last`, in the order of the draw.
  __device__ double weight_up_to(const SortKey& last) const {
    double sum = 0;
    each([&](const SortKey& token) { sum += last.before(token) ? 0.0 : weight_of(token.key); });
    return BlockTeam<kDrawLanes>{}.reduce(sum, Plus{});
  }

  struct Found {
    SortKey token;
    double through;  ///< cumulative sum, the token included
  };
  /// The first token at which the cumulative sum, of weights or (without `weights`) of 1 per token, is above `wanted`,
  /// or with `reach` at least `wanted`; the last token with a weight where rounding leaves the total below it.
  __device__ Found find(bool weights, double wanted, bool reach) const {
    constexpr int kSlots = kDigits * kDrawLanes;
    SLIPWAY_SHARED(double, sum_of, kSlots);            // one per digit and thread
    SLIPWAY_SHARED(unsigned char, tokens_of, kSlots);  // 0, 1, or 2 for more
    SLIPWAY_SHARED(double, sums, kDigits);
    SLIPWAY_SHARED(int, tokens, kDigits);
    SLIPWAY_SHARED(SortKey, found, 1);
    const int lane = static_cast<int>(threadIdx.x), warp = lane / kWarpSize;
    const auto counted = [=](Key key) { return weights ? weight_of(key) : 1.0; };
    Prefix prefix;
    double preceding = 0;  // cumulative sum before the tokens of the prefix
    bool single = false;
    for (int index = 0; index < kKeyDigits + kIdDigits && !single; ++index) {
      if (differ.digit(index) == 0) {
        prefix.add(index, one.digit(index));
        continue;
      }
      for (int digit = 0; digit < kDigits; ++digit)
        sum_of[digit * kDrawLanes + lane] = 0, tokens_of[digit * kDrawLanes + lane] = 0;
      each([&](const SortKey& token) {
        if (!prefix.matches(token)) return;
        const int slot = token.digit(index) * kDrawLanes + lane;
        sum_of[slot] += counted(token.key);
        tokens_of[slot] = tokens_of[slot] == 0 ? 1 : 2;
      });
      __syncthreads();
      if (warp < kDigits) {  // one warp reduces one digit
        double sum = 0;
        int count = 0;
        for (int i = lane % kWarpSize; i < kDrawLanes; i += kWarpSize)
          sum += sum_of[warp * kDrawLanes + i], count += tokens_of[warp * kDrawLanes + i];
        sum = reduce_warp(sum, Plus{}), count = reduce_warp(count, Plus{});
        if (lane % kWarpSize == 0) sums[warp] = sum, tokens[warp] = count;
      }
      __syncthreads();
      int chosen = 0;
      double through = preceding;
      for (int digit = kDigits - 1; digit >= 0; --digit) {
        if (sums[digit] == 0) continue;
        chosen = digit, preceding = through, through += sums[digit];
        if (through > wanted || (reach && through == wanted)) break;
      }
      prefix.add(index, chosen);
      single = tokens[chosen] == 1;
    }
    each([&](const SortKey& token) {
      if (prefix.matches(token)) found[0] = token;
    });
    __syncthreads();
    const SortKey token = found[0];
    __syncthreads();  // `found` has been read before another search writes to it
    return {token, preceding + counted(token.key)};
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
template <int kLanes>
__device__ LogitKey largest_of(const LogitKey* max_S, int chunks) {
  LogitKey best = 0;
  for (int i = static_cast<int>(threadIdx.x); i < chunks; i += kLanes) best = Max{}(best, max_S[i]);
  return BlockTeam<kLanes>{}.reduce(best, Max{});
}

__device__ bool is_bad(LogitKey key) { return static_cast<std::uint32_t>(key >> 32) == kBad; }

/// The key of every token's weight, by chunks; nothing is written for a row without a most likely token.
__global__ void __launch_bounds__(kBlockThreads)
    weigh_chunks(const Sample op, int chunks, const LogitKey* max_BS, Key* key_BV) {
  const int b = static_cast<int>(blockIdx.x) / chunks, V = op.logits_BV.cols;
  const LogitKey best = largest_of<kBlockThreads>(max_BS + std::int64_t{b} * chunks, chunks);
  if (best == 0 || is_bad(best)) return;
  const int first = static_cast<int>(blockIdx.x) % chunks * static_cast<int>(kChunk);
  const int end = V - first < static_cast<int>(kChunk) ? V : first + static_cast<int>(kChunk);
  const float* logit_V = op.logits_BV.row(b);
  const std::uint8_t* allowed_V = op.allowed(b);
  const float largest = logit_V[id_of(best)];
  Key* key_V = key_BV + std::int64_t{b} * V;
  for (int v = first + static_cast<int>(threadIdx.x); v < end; v += kBlockThreads)
    key_V[v] = allowed_V != nullptr && allowed_V[v] == 0
                   ? kForbidden
                   : key_of(exp(static_cast<double>(logit_V[v] - largest) / op.temperature));
}

/// The token of each row; one block per row.
__global__ void __launch_bounds__(kDrawLanes, 1)
    choose_tokens(const Sample op, int chunks, const LogitKey* max_BS, const Key* key_BV) {
  const int b = static_cast<int>(blockIdx.x), V = op.logits_BV.cols;
  const LogitKey best = largest_of<kDrawLanes>(max_BS + std::int64_t{b} * chunks, chunks);
  int token = static_cast<int>(id_of(best));
  if (best == 0) token = V;
  else if (is_bad(best)) token = -1 - token;
  else if (op.is_random() && op.logits_BV.row(b)[token] != -__builtin_inff()) {
    const Row row{key_BV + std::int64_t{b} * V, V};
    SortKey last{};  // the last token that may be drawn; initially after all tokens
    if (op.top_k > 0 && op.top_k < V) last = row.find(/*weights=*/false, op.top_k, /*reach=*/true).token;
    double kept = row.weight_up_to(last);
    if (op.top_p < 1) {
      const Row::Found nucleus = row.find(/*weights=*/true, op.top_p * kept, /*reach=*/true);
      if (nucleus.token.before(last)) last = nucleus.token, kept = nucleus.through;
    }
    const SortKey drawn = row.find(/*weights=*/true, op.uniform_B[b] * kept, /*reach=*/false).token;
    token = last.before(drawn) ? last.id() : drawn.id();
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
  launch({.name = "sample", .blocks = rows, .threads = kDrawLanes}, choose_tokens, queue.stream(), op, chunks, max_BS,
         key_BV);
}

}  // namespace slipway::cuda
