// How much of a pass is kept for the way back.
#pragma once

namespace slipway {

/// What the way back makes again in place of keeping it: nothing; norms' outputs and gated values, which is cheap; or
/// whole blocks, from their inputs. It changes no bit.
enum class Recompute { kNone, kNorms, kBlocks };

}  // namespace slipway
