#!/usr/bin/env python3
"""Writes tests/data/model_<family>.safetensors: a tiny decoder in f64 by JAX (x64), with its loss and all gradients.

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

FAMILIES = {  # family: tied, q/k/v bias, q/k norm, rope base, eps
    "llama": dict(tied=True, bias=False, qk_norm=False, base=1e4, eps=1e-5),
    "qwen2": dict(tied=False, bias=True, qk_norm=False, base=1e6, eps=1e-6),
    "qwen3": dict(tied=True, bias=False, qk_norm=True, base=1e6, eps=1e-6),
}
LAYERS, D, H, G, K, F, V = 2, 16, 4, 2, 4, 24, 37
B, T = 2, 11


def make_weights(rng, f):
    w = {"token_embd.weight": (V, D), "output_norm.weight": (D,)}
    if not f["tied"]:
        w["output.weight"] = (V, D)
    for i in range(LAYERS):
        p = f"blk.{i}."
        w |= {p + "attn_norm.weight": (D,), p + "ffn_norm.weight": (D,),
              p + "attn_q.weight": (H * K, D), p + "attn_k.weight": (G * K, D), p + "attn_v.weight": (G * K, D),
              p + "attn_output.weight": (D, H * K),
              p + "ffn_gate.weight": (F, D), p + "ffn_up.weight": (F, D), p + "ffn_down.weight": (D, F)}
        if f["bias"]:
            w |= {p + "attn_q.bias": (H * K,), p + "attn_k.bias": (G * K,), p + "attn_v.bias": (G * K,)}
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
    first_key = np.zeros((B, T), dtype=np.int64)
    first_key[0, 4:] = 4  # sequence 0 holds two documents, sequence 1 three
    first_key[1, 3:] = 3
    first_key[1, 9:] = 9
    positions = np.arange(T)[None, :] - first_key
    weights[0, 3] = weights[1, 2] = weights[1, 8] = 0.0  # the next token belongs to another document
    return ids, targets, weights, first_key, positions


def rms(x, gain, eps):
    return x / jnp.sqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps) * gain


def rope(x, positions, base):
    half = K // 2
    angle = positions[..., None] * base ** (-2.0 * np.arange(half) / K)
    c, s = jnp.cos(angle)[:, :, None, :], jnp.sin(angle)[:, :, None, :]
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * c - b * s, b * c + a * s], axis=-1)


def nats(w, f, ids, targets, first_key, positions):
    x = w["token_embd.weight"][ids]
    t = np.arange(T)
    seen = (t[None, None, :] <= t[None, :, None]) & (t[None, None, :] >= first_key[:, :, None])
    for i in range(LAYERS):
        p = f"blk.{i}."
        h = rms(x, w[p + "attn_norm.weight"], f["eps"])
        q, k, v = (h @ w[p + f"attn_{n}.weight"].T for n in "qkv")
        if f["bias"]:
            q, k, v = q + w[p + "attn_q.bias"], k + w[p + "attn_k.bias"], v + w[p + "attn_v.bias"]
        q, k, v = q.reshape(B, T, H, K), k.reshape(B, T, G, K), v.reshape(B, T, G, K)
        if f["qk_norm"]:
            q, k = rms(q, w[p + "attn_q_norm.weight"], f["eps"]), rms(k, w[p + "attn_k_norm.weight"], f["eps"])
        q, k = rope(q, positions, f["base"]), rope(k, positions, f["base"])
        k, v = jnp.repeat(k, H // G, axis=2), jnp.repeat(v, H // G, axis=2)
        scores = jnp.einsum("bthk,bshk->bhts", q, k) / np.sqrt(K)
        scores = jnp.where(seen[:, None], scores, -jnp.inf)
        mixed = jnp.einsum("bhts,bshk->bthk", jax.nn.softmax(scores, axis=-1), v).reshape(B, T, H * K)
        x = x + mixed @ w[p + "attn_output.weight"].T
        h = rms(x, w[p + "ffn_norm.weight"], f["eps"])
        x = x + (jax.nn.silu(h @ w[p + "ffn_gate.weight"].T) * (h @ w[p + "ffn_up.weight"].T)) @ w[p + "ffn_down.weight"].T
    logits = rms(x, w["output_norm.weight"], f["eps"]) @ w["token_embd.weight" if f["tied"] else "output.weight"].T
    return jax.nn.logsumexp(logits, axis=-1) - jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]


def main():
    folder = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for family, f in FAMILIES.items():
        rng = np.random.default_rng(20261122)
        weights32 = make_weights(rng, f)
        ids, targets, weights, first_key, positions = make_batch(rng)
        w64 = {n: jnp.asarray(x, dtype=jnp.float64) for n, x in weights32.items()}
        rows = nats(w64, f, ids, targets, first_key, positions)
        grads = jax.grad(lambda w: jnp.sum(weights * nats(w, f, ids, targets, first_key, positions)))(w64)
        out = {"weights/" + n: x for n, x in weights32.items()}
        out |= {"gradient/" + n: np.asarray(g, dtype=np.float32) for n, g in grads.items()}
        for name, x in dict(ids=ids, targets=targets, loss_weights=weights, first_key=first_key, positions=positions, nats=rows).items():
            out["batch/" + name] = np.asarray(x, dtype=np.float32)
        save_file(out, folder / f"model_{family}.safetensors",
                  metadata={"made_by": "tools/oracle/model_reference.py", "jax": jax.__version__, "numpy": np.__version__, "seed": "20261122"})
        print(family, "loss", float(jnp.sum(weights * rows) / weights.sum()))


if __name__ == "__main__":
    main()
