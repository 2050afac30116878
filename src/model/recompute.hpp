// Activation checkpointing: what the forward pass saves for the backward pass.
#pragma once

namespace slipway {

/// What the backward pass recomputes instead of reading saved activations: nothing; the outputs of norms and gates,
/// which are cheap; or whole blocks, from their inputs. All give bit-identical results.
enum class Recompute { kNone, kNorms, kBlocks };

}  // namespace slipway
