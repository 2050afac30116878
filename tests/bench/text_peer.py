"""The peers in tokenization, as a program of its own: a request (JSON) on standard input, the answer on standard output."""
import json
import sys
import time

# GPT-2's cut, as Hugging Face's ByteLevel and tiktoken's "gpt2" have it
GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


def bytes_of_letters():
    """GPT-2's letters that stand for bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + n): b for n, b in enumerate(rest)}


def train(request):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    pieces = json.load(open(request["pieces"]))
    begin = time.monotonic()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(pieces, trainers.BpeTrainer(
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
    letters = bytes_of_letters()
    model = json.load(open(request["tokenizer"]))["model"]
    ranks = {bytes(letters[c] for c in token): rank for token, rank in model["vocab"].items() if not token.startswith("<|")}
    encoding = tiktoken.Encoding("bench", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={})
    return lambda texts: encoding.encode_ordinary_batch(texts, num_threads=request["threads"])


def encode(request):
    pieces = json.load(open(request["pieces"]))
    encode = encoder(request)
    sample = encode(pieces[:1])[0]
    encode(pieces[:20])
    begin = time.monotonic()
    tokens = sum(map(len, encode(pieces)))
    return {"seconds": time.monotonic() - begin, "tokens": tokens, "sample": sample}


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    print(json.dumps({"train": train, "encode": encode}[asked["what"]](asked)))
