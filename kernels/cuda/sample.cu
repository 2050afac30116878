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

// A logit as a number that grows with it, over the complement of its id: the largest of a row names the likeliest
// token, or the first whose logit is NaN or +inf. 0: a token that is not allowed.
using Rank = std::uint64_t;
constexpr std::uint32_t kBad = 0xffffffffu;  // for what no order holds

__device__ std::uint32_t id_of(Rank rank) { return ~static_cast<std::uint32_t>(rank); }

__device__ Rank rank_of(float logit, bool allowed, int v) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(logit + 0.0f);  // -0 is 0
  const bool bad = !(logit < __builtin_inff());
  if (!bad && !allowed) return 0;
  const std::uint32_t growing = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
  return Rank{bad ? kBad : growing} << 32 | static_cast<std::uint32_t>(~v);
}

// A weight as a number that grows with it: its bits, of which the two highest are 0, moved to the digits' end.
using Key = std::uint64_t;
constexpr Key kForbidden = ~Key{0};
constexpr int kKeyDigits = 21, kIdDigits = 11;  // 63 and 33 bits

__device__ Key key_of(double weight) { return std::bit_cast<std::uint64_t>(weight) << 1; }
__device__ double weight_of(Key key) { return std::bit_cast<double>(key >> 1); }

/// Where a token stands in the order of the draw: the larger the earlier.
struct Standing {
  Key key;
  std::uint32_t early;  ///< complement of its id

  __device__ int digit(int index) const {
    const std::uint64_t word = index < kKeyDigits ? key : early;
    const int after = index < kKeyDigits ? kKeyDigits - 1 - index : kKeyDigits + kIdDigits - 1 - index;
    return static_cast<int>(word >> (kDigitBits * after)) & (kDigits - 1);
  }
  __device__ bool before(const Standing& other) const {
    return key != other.key ? key > other.key : early > other.early;
  }
  __device__ int id() const { return static_cast<int>(~early); }
};

/// The first digits that are known of a standing.
struct Known {
  Standing digits{}, mask{};

  __device__ bool of(const Standing& token) const {
    return ((token.key ^ digits.key) & mask.key) == 0 && ((token.early ^ digits.early) & mask.early) == 0;
  }
  __device__ void add(int index, int digit) {
    const bool of_key = index < kKeyDigits;
    const int shift = kDigitBits * (of_key ? kKeyDigits - 1 - index : kKeyDigits + kIdDigits - 1 - index);
    const std::uint64_t value = static_cast<std::uint64_t>(digit) << shift, ones = std::uint64_t{kDigits - 1} << shift;
    if (of_key) digits.key |= value, mask.key |= ones;
    else digits.early |= static_cast<std::uint32_t>(value), mask.early |= static_cast<std::uint32_t>(ones);
  }
};

struct Or {
  __device__ std::uint64_t operator()(std::uint64_t a, std::uint64_t b) const { return a | b; }
};

/// The tokens of a row, and the block that looks among them.
struct Row {
  const Key* key_V;
  int V;
  Standing one, differ;  ///< what the likeliest would have with the id 0, and the bits in which others are unlike it

  __device__ Row(const Key* keys, int count) : key_V(keys), V(count), one{key_of(1.0), ~0u}, differ{0, 0} {
    each([&](const Standing& token) { differ.key |= token.key ^ one.key, differ.early |= token.early ^ one.early; });
    differ.key = BlockTeam<kDrawLanes>{}.reduce(differ.key, Or{});
    differ.early = static_cast<std::uint32_t>(BlockTeam<kDrawLanes>{}.reduce(std::uint64_t{differ.early}, Or{}));
  }

  /// `act(token)` for this thread's allowed tokens, in turn.
  template <class Act>
  __device__ void each(const Act& act) const {
    for (int v = static_cast<int>(threadIdx.x); v < V; v += kDrawLanes)
      if (const Key key = key_V[v]; key != kForbidden) act(Standing{key, static_cast<std::uint32_t>(~v)});
  }

  /// The weight of all tokens up to `last`.
  __device__ double weight_up_to(const Standing& last) const {
    double sum = 0;
    each([&](const Standing& token) { sum += last.before(token) ? 0.0 : weight_of(token.key); });
    return BlockTeam<kDrawLanes>{}.reduce(sum, Plus{});
  }

  struct Found {
    Standing token;
    double through;  ///< sum of what counts, the token included
  };
  /// The first token at which the sum over those up to it, of 1 or of weights, is above `wanted`, or with `reach` not
  /// below; the last one that counts, where rounding leaves all of them short of it.
  __device__ Found find(bool weights, double wanted, bool reach) const {
    constexpr int kPlaces = kDigits * kDrawLanes;
    SLIPWAY_SHARED(double, sum_of, kPlaces);            // each thread's own, for each digit
    SLIPWAY_SHARED(unsigned char, tokens_of, kPlaces);  // 2: or more
    SLIPWAY_SHARED(double, sums, kDigits);
    SLIPWAY_SHARED(int, tokens, kDigits);
    SLIPWAY_SHARED(Standing, found, 1);
    const int lane = static_cast<int>(threadIdx.x), warp = lane / kWarpSize;
    const auto counted = [=](Key key) { return weights ? weight_of(key) : 1.0; };
    Known known;
    double passed = 0;  // by the tokens before those that are known
    bool alone = false;
    for (int index = 0; index < kKeyDigits + kIdDigits && !alone; ++index) {
      if (differ.digit(index) == 0) {
        known.add(index, one.digit(index));
        continue;
      }
      for (int digit = 0; digit < kDigits; ++digit)
        sum_of[digit * kDrawLanes + lane] = 0, tokens_of[digit * kDrawLanes + lane] = 0;
      each([&](const Standing& token) {
        if (!known.of(token)) return;
        const int place = token.digit(index) * kDrawLanes + lane;
        sum_of[place] += counted(token.key);
        tokens_of[place] = tokens_of[place] == 0 ? 1 : 2;
      });
      __syncthreads();
      if (warp < kDigits) {  // one warp sums up one digit
        double sum = 0;
        int count = 0;
        for (int i = lane % kWarpSize; i < kDrawLanes; i += kWarpSize)
          sum += sum_of[warp * kDrawLanes + i], count += tokens_of[warp * kDrawLanes + i];
        sum = reduce_warp(sum, Plus{}), count = reduce_warp(count, Plus{});
        if (lane % kWarpSize == 0) sums[warp] = sum, tokens[warp] = count;
      }
      __syncthreads();
      int chosen = 0;
      double through = passed;
      for (int digit = kDigits - 1; digit >= 0; --digit) {
        if (sums[digit] == 0) continue;
        chosen = digit, passed = through, through += sums[digit];
        if (through > wanted || (reach && through == wanted)) break;
      }
      known.add(index, chosen);
      alone = tokens[chosen] == 1;
    }
    each([&](const Standing& token) {
      if (known.of(token)) found[0] = token;
    });
    __syncthreads();
    const Standing token = found[0];
    __syncthreads();  // before another search writes there
    return {token, passed + counted(token.key)};
  }
};
static_assert(kDrawWarps >= kDigits);

/// A rank for each stretch of each row.
__global__ void __launch_bounds__(kBlockThreads) rank_chunks(const Sample op, int chunks, Rank* rank_BS) {
  const int b = static_cast<int>(blockIdx.x) / chunks, V = op.logits_BV.cols;
  const int first = static_cast<int>(blockIdx.x) % chunks * static_cast<int>(kChunk);
  const int end = V - first < static_cast<int>(kChunk) ? V : first + static_cast<int>(kChunk);
  const float* logit_V = op.logits_BV.row(b);
  const std::uint8_t* allowed_V = op.allowed(b);
  Rank best = 0;
  for (int v = first + static_cast<int>(threadIdx.x); v < end; v += kBlockThreads)
    best = Larger{}(best, rank_of(logit_V[v], allowed_V == nullptr || allowed_V[v] != 0, v));
  best = BlockTeam<kBlockThreads>{}.reduce(best, Larger{});
  if (threadIdx.x == 0) rank_BS[blockIdx.x] = best;
}

/// Of a row, from its chunks', by all threads of a block.
template <int kLanes>
__device__ Rank largest_of(const Rank* rank_S, int chunks) {
  Rank best = 0;
  for (int i = static_cast<int>(threadIdx.x); i < chunks; i += kLanes) best = Larger{}(best, rank_S[i]);
  return BlockTeam<kLanes>{}.reduce(best, Larger{});
}

__device__ bool is_bad(Rank rank) { return static_cast<std::uint32_t>(rank >> 32) == kBad; }

/// The key of every token of a stretch of a row; none where there is no likeliest token.
__global__ void __launch_bounds__(kBlockThreads)
    weigh_chunks(const Sample op, int chunks, const Rank* rank_BS, Key* key_BV) {
  const int b = static_cast<int>(blockIdx.x) / chunks, V = op.logits_BV.cols;
  const Rank best = largest_of<kBlockThreads>(rank_BS + std::int64_t{b} * chunks, chunks);
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

/// A row a block.
__global__ void __launch_bounds__(kDrawLanes, 1)
    choose_tokens(const Sample op, int chunks, const Rank* rank_BS, const Key* key_BV) {
  const int b = static_cast<int>(blockIdx.x), V = op.logits_BV.cols;
  const Rank best = largest_of<kDrawLanes>(rank_BS + std::int64_t{b} * chunks, chunks);
  int token = static_cast<int>(id_of(best));
  if (best == 0) token = V;
  else if (is_bad(best)) token = -1 - token;
  else if (op.draws() && op.logits_BV.row(b)[token] != -__builtin_inff()) {
    const Row row{key_BV + std::int64_t{b} * V, V};
    Standing last{};  // that may be drawn; so far after all
    if (op.top_k > 0 && op.top_k < V) last = row.find(/*weights=*/false, op.top_k, /*reach=*/true).token;
    double kept = row.weight_up_to(last);
    if (op.top_p < 1) {
      const Row::Found nucleus = row.find(/*weights=*/true, op.top_p * kept, /*reach=*/true);
      if (nucleus.token.before(last)) last = nucleus.token, kept = nucleus.through;
    }
    const Standing drawn = row.find(/*weights=*/true, op.uniform_B[b] * kept, /*reach=*/false).token;
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
  const std::size_t ranks = static_cast<std::size_t>(rows) * static_cast<std::size_t>(chunks);
  static_assert(std::is_same_v<Rank, Key>);
  Rank* rank_BS = queue.scratch_for<Rank>(op);
  Key* key_BV = rank_BS + ranks;
  const std::int64_t blocks = std::int64_t{rows} * chunks;
  launch({.name = "sample", .blocks = blocks, .threads = kBlockThreads}, rank_chunks, queue.stream(), op, chunks,
         rank_BS);
  if (op.draws())
    launch({.name = "sample", .blocks = blocks, .threads = kBlockThreads}, weigh_chunks, queue.stream(), op, chunks,
           rank_BS, key_BV);
  launch({.name = "sample", .blocks = rows, .threads = kDrawLanes}, choose_tokens, queue.stream(), op, chunks, rank_BS,
         key_BV);
}

}  // namespace slipway::cuda
