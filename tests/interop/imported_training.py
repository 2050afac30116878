#!/usr/bin/env python3
"""`train --init FOLDER` goes on with what transformers saved: the shape is the folder's, the first step's loss is that of `score` and of
transformers on the same tokens, a run is resumed, and what is exported opens in transformers and llama.cpp with the run's own logits.

    build/oracle-nightly/bin/python tests/interop/imported_training.py build/release/slipway build/oracle/bin/python [CASE...]
"""
import pathlib
import sys

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parents[1] / "support")]
from imports import LLAMA3, LLAMA_CPP_LOGIT_TOLERANCES, LOGIT_TOLERANCE, TEMPLATE, TEXT, TOKENS, Case, llama_cpp, np, random_model, run_cases, torch, trained_tokenizer, transformers  # noqa: E402
from program import metrics  # noqa: E402

LOSS_TOLERANCE = 1e-3        # of a mean over sequences in f32, by two programs
SPLIT_LOSS_TOLERANCE = 1e-5  # the same sums in another order
SEQUENCE = 64
CASES = [
    Case("llama"),
    Case("qwen3", "bf16", "qwen2", {"head_dim": 32, "tie_word_embeddings": True}),
    Case("gpt2", "f16"),
    Case("gpt2", "f32", "gpt-2", {"tie_word_embeddings": False}, padding=13),
    Case("llama", "f32", "llama-bpe", {"head_dim": 24, "attention_bias": True}, LLAMA3, bos=True),
    Case("qwen2", "bf16", "qwen2", padding=60),
]


def set_up(program, case, seed):
    """A folder, and data of its own tokenizer: one document, so that its sequences have one order and a step can take them all."""
    folder = program.folder / "model"
    texts = sorted((program.folder.parent / "text").iterdir())
    hf_tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=trained_tokenizer(case, texts), bos_token="<|endoftext|>", eos_token="<|im_end|>")
    hf_tokenizer.chat_template = TEMPLATE
    model = random_model(case, seed).to({"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[case.type])
    model.generation_config.eos_token_id = [hf_tokenizer.convert_tokens_to_ids(text) for text in ("<|im_end|>", "<|endoftext|>")]
    model.save_pretrained(folder)
    hf_tokenizer.save_pretrained(folder)
    (program.folder / "t.txt").write_text(TEXT)
    (program.folder / "small.txt").write_text("\n\n".join(path.read_text()[:600] for path in texts[:6]))
    program.run("data", "prepare", "--tokenizer", "model/tokenizer.json", "--input", "small.txt", "--data.document_bytes", 100_000, "--data.validation_fraction", 0,
                "--out", "data")


def transformers_loss(folder, sequences):
    """Nats of every token except the first of its piece."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    token_nll = []
    with torch.no_grad():
        for ids in sequences:
            logits = model(torch.tensor([ids])).logits[0, :-1]
            token_nll += torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none").tolist()
    return sum(token_nll) / len(token_nll)


def split_windows(score):
    """Pieces of tokens, each of which begins with a token that is not scored."""
    windows = []
    for id, token_nll in zip(score["ids"], score["nll"], strict=True):
        if token_nll is None:
            windows.append([])
        windows[-1].append(id)
    return windows


def check(program, case, python, seed):
    set_up(program, case, seed)
    score = program.json("score", "model", "--data", "data", "--split", "train", "--context", SEQUENCE)
    reference_loss = transformers_loss(program.folder / "model", split_windows(score))
    assert abs(score["nll_mean"] - reference_loss) < LOSS_TOLERANCE, (score["nll_mean"], reference_loss)

    sequences = int(score["text"].split(" ")[0])
    train_args = ["--train.sequence", SEQUENCE, "--train.batch", sequences, "--numerics.compute", "f32", "--runtime.threads", 1, "--validate.every", 0,
             "--optim.peak_lr", "1e-3", "--optim.warmup_steps", 0, "--optim.schedule_steps", 6]
    result = program.run("train", "--run", "run", "--data", "data", "--init", "model", "--train.steps", 3, *train_args)
    assert "which also gives the shape" in result.err + result.out, result.err
    first = metrics(program.folder / "run")[0]
    assert first["step"] == 1 and abs(first["train_loss"] - score["nll_mean"]) < LOSS_TOLERANCE, (first, score["nll_mean"])
    program.run("train", "--run", "split", "--data", "data", "--init", "model", "--train.steps", 1, "--mesh.tensor", 2, *train_args, ranks=2)
    split_difference = abs(metrics(program.folder / "split")[0]["train_loss"] - first["train_loss"])
    assert split_difference < SPLIT_LOSS_TOLERANCE, f"split over two ranks step 1's loss differs by {split_difference}"
    program.run("train", "--resume", "run", "--train.steps", 6)
    lines = metrics(program.folder / "run")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6] and lines[-1]["train_loss"] < first["train_loss"], lines

    ours = program.json("score", "run", "--text", "t.txt", "--context", 512, "--logits", "ours.npy")
    logits = np.load(program.folder / "ours.npy")
    assert logits.shape[1] == TOKENS + case.padding, logits.shape
    program.run("export", "run", "--out", "run-hf")
    model = transformers.AutoModelForCausalLM.from_pretrained(program.folder / "run-hf", dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        difference = np.abs(model(torch.tensor([ours["ids"]])).logits[0].numpy() - logits).max()
    assert difference < LOGIT_TOLERANCE, f"transformers differs from the run by {difference}"
    program.run("export", "run", "--out", "run.gguf")
    llama_result = llama_cpp.evaluate(program.folder / "run.gguf", text=TEXT, add_special=True, python=python)
    llama_difference = np.abs(llama_result["logits"] - logits).max()
    assert llama_result["ids"] == ours["ids"] and llama_difference < LLAMA_CPP_LOGIT_TOLERANCES.get(case.family, LOGIT_TOLERANCE), f"llama.cpp differs from the run by {llama_difference}"
    print(f"ok {case.name}: step 1 has {first['train_loss']:.6f} nats, score {score['nll_mean']:.6f}, transformers {reference_loss:.6f}; the run's export: "
          f"transformers {difference:.1e}, llama.cpp {llama_difference:.1e}", flush=True)


if __name__ == "__main__":
    run_cases(CASES, lambda program, case, python, texts, seed: check(program, case, python, seed))
