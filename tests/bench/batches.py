"""The batches of a run, worked out from its data folder: docs/data.md and docs/formats/token_shard.md in Python.

That they are the trainer's own is not taken on trust: metrics.jsonl has a hash of every step's batch.
"""
import hashlib
import json
import pathlib

import numpy as np

LOW_32_BITS = 0xFFFFFFFF


def stream_of(name):
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def philox(counter, key):
    """Philox-4x32, ten rounds."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & LOW_32_BITS, (p0 >> 32) ^ c[3] ^ k[1], p0 & LOW_32_BITS]
        k = [k[0] + 0x9E3779B9 & LOW_32_BITS, k[1] + 0xBB67AE85 & LOW_32_BITS]
    return c


def permute(index, count, seed, stream):
    """src/core/random.hpp: a keyed Feistel network with cycle walking."""
    if count <= 1:
        return index
    half = ((count - 1).bit_length() + 1) // 2
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for round_index in range(6):
            words = philox((right & LOW_32_BITS, right >> 32, round_index, stream & LOW_32_BITS), ((seed & LOW_32_BITS) ^ (stream >> 32), seed >> 32))
            left, right = right, left ^ ((words[1] << 32 | words[0]) & mask)
        index = left << half | right
        if index < count:
            return index


class Batches:
    """`data.packing = stream`, first epoch."""

    def __init__(self, folder, sequence, seed=1):
        self.sequence, self.seed = sequence, seed
        folder = pathlib.Path(folder)
        documents = []
        for shard in json.loads((folder / "manifest.json").read_text())["splits"]["train"]["shards"]:
            raw = (folder / shard["file"]).read_bytes()
            header_bytes = int.from_bytes(raw[12:16], "little")
            header = json.loads(raw[64:64 + header_bytes])
            data_offset, width = 64 + header_bytes, header["token_bytes"]
            tokens = np.frombuffer(raw, np.uint16 if width == 2 else np.uint32, header["tokens"], data_offset)
            table_offset = data_offset + (header["tokens"] * width + 63) // 64 * 64
            rows = np.frombuffer(raw, np.uint64, header["documents"] * 9, table_offset).reshape(-1, 9)
            documents += [tokens[int(first):int(first + count)] for first, count in rows[:, :2]]
        order = [permute(i, len(documents), seed, stream_of("data.order")) for i in range(len(documents))]
        self.tokens = np.concatenate([documents[i] for i in order]).astype(np.int32)
        self.sequences = -(-len(self.tokens) // sequence)

    def step(self, step, batch):
        """Ids of `step` (from 0), [batch, sequence + 1]: a row's targets are its ids, one further."""
        rows, number = [], step * batch
        while len(rows) < batch:
            sequence_index = permute(number, self.sequences, self.seed, stream_of("data.sequence_order"))
            row = self.tokens[sequence_index * self.sequence:(sequence_index + 1) * self.sequence + 1]
            if len(row) < self.sequence + 1:
                raise ValueError("the epoch's last sequence is not full, and the peer knows no weights: take another seed")
            rows.append(row)
            number += 1
        if number > self.sequences:
            raise ValueError("the data is shorter than the run")
        return np.stack(rows)


def batch_sha256(rows):
    """As metrics.jsonl has it for a step of one micro-batch: SHA-256 of the digits of that of ids, targets and weights."""
    ids, targets = np.ascontiguousarray(rows[:, :-1]), np.ascontiguousarray(rows[:, 1:])
    batch = ids.tobytes() + targets.tobytes() + np.ones(ids.shape, np.float32).tobytes()
    return hashlib.sha256(hashlib.sha256(batch).hexdigest().encode()).hexdigest()
