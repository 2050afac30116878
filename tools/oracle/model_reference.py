#!/usr/bin/env python3
"""Writes tests/data/model_<case>.safetensors: a tiny decoder in f64 by JAX (x64), with its loss and all gradients.

Independent of Slipway: plain matrix formulas, T x T attention with an explicit mask, gradients by automatic
differentiation. Each file holds the weights (f32, in Hugging Face's row order, under Slipway's names), one batch of two
sequences with document boundaries and masked targets, the per-token losses, and the gradient of the summed loss.

    python3 -m venv oracle && oracle/bin/pip install jax safetensors && oracle/bin/python tools/oracle/model_reference.py

Seed 20261122. Libraries are named in each file's metadata.
"""
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

jax.config.update("jax_enable_x64", True)

LAYERS, D, H, F, V = 2, 16, 4, 24, 37
B, T = 2, 11
CONTEXT = 13  # rows of learned positions: more than are used

PLAIN = dict(tied=True, bias=False, qk_norm=False, base=1e4, eps=1e-5, kv_heads=2, head_width=4, ffn=("swiglu",) * LAYERS,
             output_bias=False, ffn_bias=False, layer_norm=False, positions=False, llama3=None)
CASES = {
    "llama": PLAIN,
    "qwen2": PLAIN | dict(tied=False, bias=True, base=1e6, eps=1e-6),
    "qwen3": PLAIN | dict(qk_norm=True, base=1e6, eps=1e-6),
    "gpt2": PLAIN | dict(bias=True, kv_heads=H, ffn=("gelu",) * LAYERS, output_bias=True, ffn_bias=True, layer_norm=True, positions=True),
    # A head width that is not width / heads, all biases of attention, and RoPE whose three pairs are kept, smoothed and stretched.
    "llama3": PLAIN | dict(tied=False, bias=True, base=100.0, head_width=6, output_bias=True, llama3=dict(factor=8, low=1, high=4, original=60)),
    "mixed": PLAIN | dict(tied=False, ffn=("swiglu", "gelu")),
}


def make_weights(rng, f):
    G, K = f["kv_heads"], f["head_width"]

    def norm(name):
        return {name + ".weight": (D,)} | ({name + ".bias": (D,)} if f["layer_norm"] else {})

    w = {"token_embd.weight": (V, D)} | norm("output_norm")
    if not f["tied"]:
        w["output.weight"] = (V, D)
    if f["positions"]:
        w["position_embd.weight"] = (CONTEXT, D)
    for i in range(LAYERS):
        p = f"blk.{i}."
        w |= norm(p + "attn_norm") | norm(p + "ffn_norm")
        w |= {p + "attn_q.weight": (H * K, D), p + "attn_k.weight": (G * K, D), p + "attn_v.weight": (G * K, D),
              p + "attn_output.weight": (D, H * K)}
        if f["ffn"][i] == "swiglu":
            w[p + "ffn_gate.weight"] = (F, D)
        w |= {p + "ffn_up.weight": (F, D), p + "ffn_down.weight": (D, F)}
        if f["bias"]:
            w |= {p + "attn_q.bias": (H * K,), p + "attn_k.bias": (G * K,), p + "attn_v.bias": (G * K,)}
        if f["output_bias"]:
            w[p + "attn_output.bias"] = (D,)
        if f["ffn_bias"]:
            w |= {p + "ffn_up.bias": (F,), p + "ffn_down.bias": (D,)}
        if f["qk_norm"]:
            w |= {p + "attn_q_norm.weight": (K,), p + "attn_k_norm.weight": (K,)}
    out = {}
    for name, shape in w.items():
        x = rng.normal(size=shape) * (0.3 if len(shape) == 2 else 0.1)
        out[name] = (x + 1.0 if name.endswith("norm.weight") else x).astype(np.float32)
    return out


def make_batch(rng):
    ids = rng.integers(0, V, size=(B, T))
    targets = rng.integers(0, V, size=(B, T))
    weights = np.ones((B, T))
    key_start = np.zeros((B, T), dtype=np.int64)
    key_start[0, 4:] = 4  # sequence 0 holds two documents, sequence 1 three
    key_start[1, 3:] = 3
    key_start[1, 9:] = 9
    positions = np.arange(T)[None, :] - key_start
    weights[0, 3] = weights[1, 2] = weights[1, 8] = 0.0  # the next token belongs to another document
    return ids, targets, weights, key_start, positions


def rms(x, gain, eps):
    return x / jnp.sqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps) * gain


def norm(x, w, name, f):
    if not f["layer_norm"]:
        return rms(x, w[name + ".weight"], f["eps"])
    centered = x - jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(centered * centered, axis=-1, keepdims=True)
    return centered / jnp.sqrt(variance + f["eps"]) * w[name + ".weight"] + w[name + ".bias"]


def frequencies(f):
    """Of RoPE; scaled as transformers' modeling_rope_utils does for rope_type llama3."""
    K = f["head_width"]
    plain = f["base"] ** (-2.0 * np.arange(K // 2) / K)
    if f["llama3"] is None:
        return plain
    s = f["llama3"]
    waves = 2 * np.pi / plain
    smooth = (s["original"] / waves - s["low"]) / (s["high"] - s["low"])
    blended = (1 - smooth) * plain / s["factor"] + smooth * plain
    return np.where(waves < s["original"] / s["high"], plain, np.where(waves > s["original"] / s["low"], plain / s["factor"], blended))


def rope(x, positions, f):
    half = f["head_width"] // 2
    angle = positions[..., None] * frequencies(f)
    c, s = jnp.cos(angle)[:, :, None, :], jnp.sin(angle)[:, :, None, :]
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * c - b * s, b * c + a * s], axis=-1)


def nats(w, f, ids, targets, key_start, positions):
    G, K = f["kv_heads"], f["head_width"]

    def add(x, name, has_bias):
        return x + w[name + ".bias"] if has_bias else x

    def linear(x, name, bias):
        return add(x @ w[name + ".weight"].T, name, bias)

    x = w["token_embd.weight"][ids]
    if f["positions"]:
        x = x + w["position_embd.weight"][positions]
    t = np.arange(T)
    attention_mask = (t[None, None, :] <= t[None, :, None]) & (t[None, None, :] >= key_start[:, :, None])
    for i in range(LAYERS):
        p = f"blk.{i}."
        h = norm(x, w, p + "attn_norm", f)
        q, k, v = (linear(h, p + f"attn_{n}", f["bias"]) for n in "qkv")
        q, k, v = q.reshape(B, T, H, K), k.reshape(B, T, G, K), v.reshape(B, T, G, K)
        if f["qk_norm"]:
            q, k = rms(q, w[p + "attn_q_norm.weight"], f["eps"]), rms(k, w[p + "attn_k_norm.weight"], f["eps"])
        if not f["positions"]:
            q, k = rope(q, positions, f), rope(k, positions, f)
        k, v = jnp.repeat(k, H // G, axis=2), jnp.repeat(v, H // G, axis=2)
        scores = jnp.einsum("bthk,bshk->bhts", q, k) / np.sqrt(K)
        scores = jnp.where(attention_mask[:, None], scores, -jnp.inf)
        attention_output = jnp.einsum("bhts,bshk->bthk", jax.nn.softmax(scores, axis=-1), v).reshape(B, T, H * K)
        x = x + linear(attention_output, p + "attn_output", f["output_bias"])
        h = norm(x, w, p + "ffn_norm", f)
        up = linear(h, p + "ffn_up", f["ffn_bias"])
        hidden = jax.nn.silu(h @ w[p + "ffn_gate.weight"].T) * up if f["ffn"][i] == "swiglu" else jax.nn.gelu(up, approximate=True)
        x = x + linear(hidden, p + "ffn_down", f["ffn_bias"])
    logits = norm(x, w, "output_norm", f) @ w["token_embd.weight" if f["tied"] else "output.weight"].T
    return jax.nn.logsumexp(logits, axis=-1) - jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]


def main():
    folder = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for case, f in CASES.items():
        rng = np.random.default_rng(20261122)
        weights32 = make_weights(rng, f)
        ids, targets, weights, key_start, positions = make_batch(rng)
        w64 = {n: jnp.asarray(x, dtype=jnp.float64) for n, x in weights32.items()}
        rows = nats(w64, f, ids, targets, key_start, positions)
        grads = jax.grad(lambda w: jnp.sum(weights * nats(w, f, ids, targets, key_start, positions)))(w64)
        out = {"weights/" + n: x for n, x in weights32.items()}
        out |= {"gradient/" + n: np.asarray(g, dtype=np.float32) for n, g in grads.items()}
        for name, x in dict(ids=ids, targets=targets, loss_weights=weights, key_start=key_start, positions=positions, nats=rows).items():
            out["batch/" + name] = np.asarray(x, dtype=np.float32)
        save_file(out, folder / f"model_{case}.safetensors",
                  metadata={"made_by": "tools/oracle/model_reference.py", "jax": jax.__version__, "numpy": np.__version__, "seed": "20261122"})
        print(case, "loss", float(jnp.sum(weights * rows) / weights.sum()))


if __name__ == "__main__":
    main()
