"""checkpoint_h5py.py SLIPWAY CHECKPOINT_MAKER: reads checkpoints with h5py, h5dump, safetensors and the command line."""

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

SLIPWAY, CHECKPOINT_MAKER = (os.path.abspath(path) for path in sys.argv[1:3])
SHAPES = {"blk.0.attn_norm.weight": (37,), "blk.0.ffn_down.weight": (29, 13), "token_embd.weight": (101, 13)}
KINDS = ("value", "adam_m", "adam_v")


def expected(kind, name):
    """The values that make_checkpoint.cpp writes."""
    base = 1000 * KINDS.index(kind) + 10000 * list(SHAPES).index(name)
    return (np.arange(np.prod(SHAPES[name]), dtype=np.float32) / 8 + base).astype(np.float32).reshape(SHAPES[name])


def make_checkpoint(folder, step, data, tensor, *extra_args):
    return subprocess.run([CHECKPOINT_MAKER, folder, str(step), str(data), str(tensor), *extra_args], check=True, capture_output=True, text=True).stdout.strip()


def run_slipway(*argv, status=0):
    result = subprocess.run([SLIPWAY, "checkpoint", *argv], capture_output=True, text=True)
    assert result.returncode == status, f"{argv}: status {result.returncode}, expected {status}: {result.stdout}{result.stderr}"
    if status not in (0, 8):
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    return result.stdout + result.stderr


def every_tensor_is_whole_in_the_index(folder):
    with h5py.File(os.path.join(folder, "index.h5"), "r") as index:
        assert index.attrs["format"] == b"slipway.checkpoint" and index.attrs["format_version"] == 1
        for kind in KINDS:
            assert set(index[kind]) == set(SHAPES)
            for name in SHAPES:
                actual = index[kind][name]
                assert actual.dtype == np.dtype("<f4") and actual.shape == SHAPES[name] and actual.is_virtual
                np.testing.assert_array_equal(actual[...], expected(kind, name), err_msg=f"{kind} of {name}")


def h5dump_reads_every_file(folder):
    for name in sorted(os.listdir(folder)):
        if name.endswith(".h5"):
            out = subprocess.run(["h5dump", "-H", os.path.join(folder, name)], capture_output=True, text=True)
            assert out.returncode == 0 and "H5T_IEEE_F32LE" in out.stdout, f"{name}: {out.stderr}"
    out = subprocess.run(["h5dump", "-d", "/value/token_embd.weight", "-s", "100,12", "-c", "1,1", os.path.join(folder, "index.h5")], capture_output=True, text=True)
    assert "20164" in out.stdout, out.stdout  # 20000 + 1312 / 8


def a_missing_file_reads_as_nan_inside_another_checkpoint_too(scratch):
    """HDF5 also looks for the sources of a virtual dataset in the current directory."""
    full, other = make_checkpoint(f"{scratch}/a/checkpoints", 5, 2, 1), make_checkpoint(f"{scratch}/b/checkpoints", 6, 2, 1)
    missing = next(name for name in os.listdir(full) if name.startswith("rank-1."))
    os.remove(os.path.join(full, missing))
    old_cwd = os.getcwd()
    os.chdir(other)
    try:
        with h5py.File(os.path.join(full, "index.h5"), "r") as index:
            for kind in KINDS:
                for name in SHAPES:
                    actual, reference = index[kind][name][...], expected(kind, name)
                    np.testing.assert_array_equal(actual[~np.isnan(actual)], reference[~np.isnan(actual)])
                    assert np.isnan(actual).any(), f"{kind} of {name} has no NaN: zeros, or another checkpoint's numbers"
    finally:
        os.chdir(old_cwd)
    assert "lacks " + missing in run_slipway("verify", full, status=4)


def the_manifest_can_be_checked_with_sha256sum(folder):
    subprocess.run(["sha256sum", "-c", "manifest.sha256"], cwd=folder, check=True, capture_output=True)
    with open(os.path.join(folder, "manifest.json")) as file:
        manifest = json.load(file)
    for tensor in manifest["tensors"]:  # the offsets are true: the bytes are where the manifest says
        for stored_slice in tensor["slices"]:
            (row, col), (rows, cols) = stored_slice["offset"], stored_slice["extent"]
            numbers = np.fromfile(os.path.join(folder, manifest["files"][stored_slice["file"]]["name"]), "<f4", rows * cols, offset=stored_slice["byte"])
            reference = expected(tensor["kind"], tensor["name"]).reshape(-1, tensor["shape"][-1])
            np.testing.assert_array_equal(numbers.reshape(rows, cols), reference[row:row + rows, col:col + cols])


def consolidation_is_layout_free(folders, scratch):
    hashes = set()
    for i, folder in enumerate(folders):
        out = f"{scratch}/model-{i}.safetensors"
        run_slipway("consolidate", folder, "--out", out)
        with safe_open(out, "np") as file:
            assert set(file.keys()) == set(SHAPES)
            hashes.add(file.metadata()["slipway.provenance_sha256"])
            for name in SHAPES:
                np.testing.assert_array_equal(file.get_tensor(name), expected("value", name))
    digest = hashlib.sha256()
    for name in sorted(SHAPES):
        digest.update(name.encode() + b"\0f32" + np.array(SHAPES[name], "<u8").tobytes() + expected("value", name).tobytes())
    assert hashes == {digest.hexdigest()}


def the_command_line(scratch, folders):
    assert json.loads(run_slipway("verify", folders[0], "--json"))["ok"] is True
    inspected = json.loads(run_slipway("inspect", folders[1], "--json"))
    assert inspected["layout"] == {"data": 2, "tensor": 2, "pipeline": 1} and inspected["step"] == 7 and inspected["parameters"] == 37 + 29 * 13 + 101 * 13
    assert "token_embd.weight [101,13]" in run_slipway("inspect", folders[1])
    assert "equal" in run_slipway("diff", folders[0], folders[1])
    changed = make_checkpoint(f"{scratch}/changed/checkpoints", 7, 4, 1, "change")
    text = run_slipway("diff", folders[0], changed, status=8)
    assert "adam_m of blk.0.ffn_down.weight differs at [1,4]: 11002.125 and 11002.625" in text, text
    actual = json.loads(run_slipway("diff", folders[0], changed, "--json", status=8))
    assert actual["equal"] is False and actual["first_difference"]["index"] == [1, 4]
    later = make_checkpoint(f"{scratch}/later/checkpoints", 8, 1, 1)
    assert "step" in run_slipway("diff", folders[0], later, status=8)
    assert json.loads(run_slipway("inspect", f"{scratch}/later", "--json"))["step"] == 8  # a run folder
    run_slipway("verify", f"{scratch}/nowhere", status=4)
    run_slipway("verify", status=2)
    run_slipway("mend", folders[0], status=2)
    run_slipway("diff", folders[0], status=2)
    run_slipway("consolidate", folders[0], status=2)
    name = next(name for name in os.listdir(folders[1]) if name.startswith("rank-3."))
    with open(os.path.join(folders[1], name), "r+b") as file:
        file.seek(-1, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    assert name in run_slipway("verify", folders[1], status=4)


def main():
    with tempfile.TemporaryDirectory() as scratch:
        folders = [make_checkpoint(f"{scratch}/{data}x{tensor}/checkpoints", 7, data, tensor) for data, tensor in ((1, 1), (2, 2), (1, 3), (4, 1))]
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
