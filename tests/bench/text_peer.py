"""The peers in tokenization, as a program of its own: a request (JSON) on standard input, the answer on standard output."""
import json
import sys
import time

# GPT-2's cut, as Hugging Face's ByteLevel and tiktoken's "gpt2" have it
GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


def unicode_to_bytes():
    """GPT-2's letters that stand for bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + n): b for n, b in enumerate(rest)}


def train(request):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    chunks = json.load(open(request["chunks"]))
    begin = time.monotonic()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(chunks, trainers.BpeTrainer(
        vocab_size=request["vocabulary"], min_frequency=2, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return {"seconds": time.monotonic() - begin, "vocabulary": tokenizer.get_vocab_size()}


def encoder(request):
    """From a list of texts to lists of ids, by the fastest call of each."""
    if request["peer"] == "tokenizers":
        from tokenizers import Tokenizer
        tokenizer = Tokenizer.from_file(request["tokenizer"])
        return lambda texts: [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    import tiktoken
    byte_of_char = unicode_to_bytes()
    model = json.load(open(request["tokenizer"]))["model"]
    ranks = {bytes(byte_of_char[c] for c in token): rank for token, rank in model["vocab"].items() if not token.startswith("<|")}
    encoding = tiktoken.Encoding("bench", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={})
    return lambda texts: encoding.encode_ordinary_batch(texts, num_threads=request["threads"])


def encode(request):
    chunks = json.load(open(request["chunks"]))
    encode = encoder(request)
    sample = encode(chunks[:1])[0]
    encode(chunks[:20])
    begin = time.monotonic()
    tokens = sum(map(len, encode(chunks)))
    return {"seconds": time.monotonic() - begin, "tokens": tokens, "sample": sample}


if __name__ == "__main__":
    request = json.load(sys.stdin)
    print(json.dumps({"train": train, "encode": encode}[request["what"]](request)))
