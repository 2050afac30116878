// Activation checkpointing: what the forward pass saves for the backward pass.
#pragma once

namespace slipway {

/// What the backward pass recomputes instead of reading it from saved activations: nothing; the outputs of norms and
/// gates, which is cheap; or whole blocks, from their inputs. Does not change a bit of any result.
enum class Recompute { kNone, kNorms, kBlocks };

}  // namespace slipway
