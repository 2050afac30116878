#!/usr/bin/env python3
"""Looks into a checkpoint without Slipway: read.py CHECKPOINT|RUN [TOKEN]; of a run, into its newest"""
import json
import pathlib
import sys

import h5py
import numpy as np


def main(folder, token):
    folder = pathlib.Path(folder)
    if (folder / "checkpoints").is_dir():
        folder = max((folder / "checkpoints").glob("step-*[0-9]"))
    manifest = json.loads((folder / "manifest.json").read_text())
    print(f"step {manifest['step']} of run {manifest['run_id']}, written by {manifest['layout']}")
    for loss in manifest["history"].get("val_losses", []):
        print(f"  validation at step {loss['step']}: {loss['val_loss']:.4f}")

    with h5py.File(folder / "index.h5") as index:
        weights = index["value"]
        moments = index.get("adam_m", {})  # Muon keeps muon_m of hidden matrices in its place
        print(f"\n{'tensor':32}{'shape':>16}{'rms':>12}{'rms of adam_m':>16}")
        for name in weights:
            print(f"{name:32}{str(weights[name].shape):>16}{rms(weights[name][...]):12.4g}"
                  + (f"{rms(moments[name][...]):16.4g}" if name in moments else ""))
        check_hashes(folder, manifest, "output_norm.weight")
        nearest(weights["token_embd.weight"][...], json.loads(manifest["tokenizer"]), token)


def rms(values):
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def check_hashes(folder, manifest, name):
    """The manifest says where each rank's part lies in its file, and the XXH3-128 of these bytes."""
    try:
        import xxhash
    except ImportError:
        print("\n(hashes are not checked: pip install xxhash)")
        return
    tensor = next(t for t in manifest["tensors"] if t["kind"] == "value" and t["name"] == name)
    for part in tensor["slices"]:
        with open(folder / manifest["files"][part["file"]]["name"], "rb") as file:
            file.seek(part["byte"])
            found = xxhash.xxh3_128_hexdigest(file.read(4 * int(np.prod(part["extent"]))))
        if found != part["xxh3"]:
            raise SystemExit(f"{name}: {part['dataset']} is damaged")
    print(f"\n{name}: {len(tensor['slices'])} part(s), hashes as the manifest says")


def nearest(embedding, tokenizer, token):
    """Tokens by the cosine of their embeddings. In a byte-level vocabulary a leading blank is written as U+0120."""
    ids = tokenizer["model"]["vocab"]
    wanted = token.replace(" ", "\u0120")
    if wanted not in ids:
        raise SystemExit(f"{token!r} is no single token of this vocabulary")
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    likeness = unit @ unit[ids[wanted]]
    names = {id: name for name, id in ids.items()}
    print(f"\nnearest to {token!r}:")
    for id in np.argsort(-likeness)[:8]:
        print(f"  {likeness[id]:.3f}  {names.get(int(id), '?')}")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    main(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else " the")
