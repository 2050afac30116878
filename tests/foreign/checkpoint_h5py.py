"""checkpoint_h5py.py SLIPWAY CHECKPOINT_MAKE: reads checkpoints with h5py, h5dump, safetensors and the command line."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile

import h5py
import numpy as np
from safetensors import safe_open

SLIPWAY, MAKE = (os.path.abspath(path) for path in sys.argv[1:3])
SHAPES = {"blk.0.attn_norm.weight": (37,), "blk.0.ffn_down.weight": (29, 13), "token_embd.weight": (101, 13)}
KINDS = ("value", "adam_m", "adam_v")


def expected(kind, name):
    """The values that checkpoint_make.cpp writes."""
    base = 1000 * KINDS.index(kind) + 10000 * list(SHAPES).index(name)
    return (np.arange(np.prod(SHAPES[name]), dtype=np.float32) / 8 + base).astype(np.float32).reshape(SHAPES[name])


def make(folder, step, data, tensor, *change):
    return subprocess.run([MAKE, folder, str(step), str(data), str(tensor), *change], check=True, capture_output=True, text=True).stdout.strip()


def slipway(*words, status=0):
    done = subprocess.run([SLIPWAY, "checkpoint", *words], capture_output=True, text=True)
    assert done.returncode == status, f"{words}: status {done.returncode}, expected {status}: {done.stdout}{done.stderr}"
    if status not in (0, 8):
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stdout + done.stderr


def every_tensor_is_whole_in_the_index(folder):
    with h5py.File(os.path.join(folder, "index.h5"), "r") as index:
        assert index.attrs["format"] == b"slipway.checkpoint" and index.attrs["format_version"] == 1
        for kind in KINDS:
            assert set(index[kind]) == set(SHAPES)
            for name in SHAPES:
                found = index[kind][name]
                assert found.dtype == np.dtype("<f4") and found.shape == SHAPES[name] and found.is_virtual
                np.testing.assert_array_equal(found[...], expected(kind, name), err_msg=f"{kind} of {name}")


def h5dump_reads_every_file(folder):
    for name in sorted(os.listdir(folder)):
        if name.endswith(".h5"):
            out = subprocess.run(["h5dump", "-H", os.path.join(folder, name)], capture_output=True, text=True)
            assert out.returncode == 0 and "H5T_IEEE_F32LE" in out.stdout, f"{name}: {out.stderr}"
    out = subprocess.run(["h5dump", "-d", "/value/token_embd.weight", "-s", "100,12", "-c", "1,1", os.path.join(folder, "index.h5")], capture_output=True, text=True)
    assert "20164" in out.stdout, out.stdout  # 20000 + 1312 / 8


def a_missing_file_reads_as_nan_inside_another_checkpoint_too(scratch):
    """HDF5 also looks for the sources of a virtual dataset in the current directory."""
    full, other = make(f"{scratch}/a/checkpoints", 5, 2, 1), make(f"{scratch}/b/checkpoints", 6, 2, 1)
    missing = next(name for name in os.listdir(full) if name.startswith("rank-1."))
    os.remove(os.path.join(full, missing))
    here = os.getcwd()
    os.chdir(other)
    try:
        with h5py.File(os.path.join(full, "index.h5"), "r") as index:
            for kind in KINDS:
                for name in SHAPES:
                    found, whole = index[kind][name][...], expected(kind, name)
                    np.testing.assert_array_equal(found[~np.isnan(found)], whole[~np.isnan(found)])
                    assert np.isnan(found).any(), f"{kind} of {name} has no NaN: zeros, or another checkpoint's numbers"
    finally:
        os.chdir(here)
    assert "lacks " + missing in slipway("verify", full, status=4)


def the_manifest_can_be_checked_with_sha256sum(folder):
    subprocess.run(["sha256sum", "-c", "manifest.sha256"], cwd=folder, check=True, capture_output=True)
    with open(os.path.join(folder, "manifest.json")) as file:
        manifest = json.load(file)
    for tensor in manifest["tensors"]:  # the offsets are true: the bytes are where the manifest says
        for piece in tensor["slices"]:
            (row, col), (rows, cols) = piece["offset"], piece["extent"]
            numbers = np.fromfile(os.path.join(folder, manifest["files"][piece["file"]]["name"]), "<f4", rows * cols, offset=piece["byte"])
            whole = expected(tensor["kind"], tensor["name"]).reshape(-1, tensor["shape"][-1])
            np.testing.assert_array_equal(numbers.reshape(rows, cols), whole[row:row + rows, col:col + cols])


def consolidation_is_layout_free(folders, scratch):
    hashes = set()
    for i, folder in enumerate(folders):
        out = f"{scratch}/model-{i}.safetensors"
        slipway("consolidate", folder, "--out", out)
        with safe_open(out, "np") as file:
            assert set(file.keys()) == set(SHAPES)
            hashes.add(file.metadata()["slipway.provenance_sha256"])
            for name in SHAPES:
                np.testing.assert_array_equal(file.get_tensor(name), expected("value", name))
    own = hashlib.sha256()
    for name in sorted(SHAPES):
        own.update(name.encode() + b"\0f32" + np.array(SHAPES[name], "<u8").tobytes() + expected("value", name).tobytes())
    assert hashes == {own.hexdigest()}


def the_command_line(scratch, folders):
    assert json.loads(slipway("verify", folders[0], "--json"))["ok"] is True
    seen = json.loads(slipway("inspect", folders[1], "--json"))
    assert seen["layout"] == {"data": 2, "tensor": 2, "pipeline": 1} and seen["step"] == 7 and seen["parameters"] == 37 + 29 * 13 + 101 * 13
    assert "token_embd.weight [101,13]" in slipway("inspect", folders[1])
    assert "equal" in slipway("diff", folders[0], folders[1])
    changed = make(f"{scratch}/changed/checkpoints", 7, 4, 1, "change")
    text = slipway("diff", folders[0], changed, status=8)
    assert "adam_m of blk.0.ffn_down.weight differs at [1,4]: 11002.125 and 11002.625" in text, text
    found = json.loads(slipway("diff", folders[0], changed, "--json", status=8))
    assert found["equal"] is False and found["first_difference"]["index"] == [1, 4]
    later = make(f"{scratch}/later/checkpoints", 8, 1, 1)
    assert "step" in slipway("diff", folders[0], later, status=8)
    assert json.loads(slipway("inspect", f"{scratch}/later", "--json"))["step"] == 8  # a run folder
    slipway("verify", f"{scratch}/nowhere", status=4)
    slipway("verify", status=2)
    slipway("mend", folders[0], status=2)
    slipway("diff", folders[0], status=2)
    slipway("consolidate", folders[0], status=2)
    name = next(name for name in os.listdir(folders[1]) if name.startswith("rank-3."))
    with open(os.path.join(folders[1], name), "r+b") as file:
        file.seek(-1, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    assert name in slipway("verify", folders[1], status=4)


def main():
    with tempfile.TemporaryDirectory() as scratch:
        folders = [make(f"{scratch}/{data}x{tensor}/checkpoints", 7, data, tensor) for data, tensor in ((1, 1), (2, 2), (1, 3), (4, 1))]
        for folder in folders:
            every_tensor_is_whole_in_the_index(folder)
            h5dump_reads_every_file(folder)
            the_manifest_can_be_checked_with_sha256sum(folder)
        moved = shutil.move(folders[3], f"{scratch}/moved")
        every_tensor_is_whole_in_the_index(moved)
        a_missing_file_reads_as_nan_inside_another_checkpoint_too(scratch)
        consolidation_is_layout_free(folders[:3], scratch)
        the_command_line(scratch, folders)
    print("checkpoints: h5py, h5dump, sha256sum, safetensors and the command line agree")


main()
