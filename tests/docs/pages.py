#!/usr/bin/env python3
"""What the pages say can be typed: the commands of README.md and of docs/data.md run as they stand, on small texts, and
docs/reference.md is what the program says today.

    python3 tests/docs/pages.py build/release/slipway
"""
import difflib
import errno
import gzip
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tools")]
import diagrams  # noqa: E402
import gpu_page  # noqa: E402
import program  # noqa: E402
import record_session  # noqa: E402
import reference_page  # noqa: E402

# What makes a page's example small enough for a test; everything else runs as it is written.
SHORTER_ARGS = {"llama-30m": "llama-1m", "--train.steps 2000": "--train.steps 4 --train.batch 4 --train.sequence 64",
           "--train.steps 4000 --optim.schedule_steps 4000": "--train.steps 6 --optim.schedule_steps 6",
           "--tokenizer.vocabulary 16384": "--tokenizer.vocabulary 600", "--out data\n": "--data.document_bytes 4000 --out data\n", "--tokens 100": "--tokens 10"}


def find_code_block(page, text):
    """The fenced block of a page that holds a text."""
    blocks = [b for b in re.findall(r"^```\w*\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S) if text in b]
    assert len(blocks) == 1, f"{page} has {len(blocks)} blocks with {text!r}"
    return blocks[0]


def run(script, folder, slipway):
    """What the script writes to standard output."""
    script = f"slipway={slipway}\n" + script.replace("slipway=build/release/slipway", "")
    script = re.sub(r"(\./)?launch/run", str(ROOT / "launch" / "run"), script)
    result = subprocess.run(["bash", "-euxc", script], cwd=folder, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, f"{result.stdout[-2000:]}\n{result.stderr[-3000:]}"
    return result.stdout


def write_texts(folder, name, suffix):
    program.standard_library(folder / name, 200_000)
    for path in (folder / name).iterdir():
        path.rename(path.with_suffix(suffix))


def the_readme_runs_as_it_stands(slipway, folder):
    write_texts(folder / "my", "texts", ".txt")
    script = find_code_block("README.md", "qa runs/first")
    for long, short in SHORTER_ARGS.items():
        script = script.replace(long, short)
    # Four steps learn too little for qa, which says so by status 8.
    script = script.replace("$slipway qa runs/first", "$slipway qa runs/first || [ $? -eq 8 ]")
    run(script, folder, slipway)
    assert (folder / "first.gguf").stat().st_size > 100_000


def the_three_promises_of_the_readme_hold(slipway, folder):
    write_texts(folder, "texts", ".txt")
    run('"$slipway" tokenizer train --input texts --tokenizer.vocabulary 600 --out tok.json\n'
        '"$slipway" data prepare --tokenizer tok.json --input texts --data.document_bytes 4000 --out data', folder, slipway)
    os.symlink(ROOT / "configs", folder / "configs")
    same_bits, verified = find_code_block("README.md", "checkpoint diff one many"), find_code_block("README.md", "export one")
    # Two ranks where the page has four, and only a tenth of the steps.
    for long, short in {"-n 4": "-n 2", "configs/smoke.ini": "configs/smoke.ini --train.steps 8 --checkpoint.every 2", "kill_step 35": "kill_step 5 || [ $? -eq 137 ]"}.items():
        same_bits = same_bits.replace(long, short)
    assert run(same_bits, folder, slipway).splitlines()[-1].startswith("equal: ")
    assert "same ids" in run(verified, folder, slipway)
    failing_command = find_code_block("README.md", "--run three").replace("\n", " || [ $? -eq 4 ]\n", 1)
    run(failing_command, folder, slipway)
    assert not (folder / "three" / "metrics.jsonl").exists()


def the_configs_can_be_planned(slipway, _):
    for config in sorted((ROOT / "configs").glob("*.ini")):
        subprocess.run([slipway, "plan", "--config", config, "--json"], check=True, capture_output=True)


def the_page_on_data_runs_as_it_stands(slipway, folder):
    write_texts(folder, "texts", ".txt")
    subprocess.run([slipway, "tokenizer", "train", "--input", "texts", "--tokenizer.vocabulary", "500", "--out", "tokenizer.json"], cwd=folder, check=True)
    with gzip.open(folder / "more.jsonl.gz", "wt") as file:
        for i in range(50):
            file.write(json.dumps({"text": f"row {i} of fifty", "license": "MIT"}) + "\n")
    run(f'slipway() {{ "{slipway}" "$@"; }}\n' + find_code_block("docs/data.md", "slipway data prepare"), folder, slipway)


def the_reference_is_what_the_program_says(slipway, _):
    generated, committed = reference_page.page(slipway), (ROOT / "docs" / "reference.md").read_text()
    difference = "\n".join(list(difflib.unified_diff(committed.splitlines(), generated.splitlines(), lineterm="", n=0))[:12])
    assert generated == committed, f"docs/reference.md is old: tools/reference_page.py build/release/slipway > docs/reference.md\n{difference}"


def the_page_on_gpus_is_what_the_program_counts(slipway, _):
    committed = (ROOT / "docs" / "gpu.md").read_text()
    assert gpu_page.page(slipway, committed) == committed, "docs/gpu.md is old: tools/gpu_page.py build/release/slipway docs/gpu.md"


def links_lead_somewhere(_, __):
    for page in [*ROOT.glob("*.md"), *(page for folder in ("docs", "dev", "examples", "configs") for page in (ROOT / folder).rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}, which is not there"


def paths_named_in_the_tour_exist(_, __):
    for path in re.findall(r"`((?:src|kernels|comm|io|launch|docs|tests|tools|configs)/[\w/.]+)`", (ROOT / "docs" / "tour.md").read_text()):
        assert (ROOT / path).exists(), f"docs/tour.md names {path}, which is not there"


def the_errors_on_the_page_are_those_of_the_program(_, __):
    """Each piece of a quoted sentence stands in the sources, where literals that stand one after the other are one."""
    sources = [path for folder in ("src", "launch", "comm", "io", "kernels") for path in (ROOT / folder).rglob("*")
               if path.suffix in (".cpp", ".hpp", ".cu", ".cuh")]
    program_text = "\0".join(re.sub(r'"\s*\n\s*"', "", path.read_text()).replace('\\"', '"') for path in sources)
    known_messages = program_text + "\0".join(os.strerror(number) for number in (errno.ENOSPC, errno.EMFILE, errno.EFBIG))
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    quoted_messages = re.findall(r"^\| `([^`]*)` \|", page, re.M)
    assert len(quoted_messages) > 60, len(quoted_messages)
    for message in quoted_messages:
        for fragment in message.split("…"):
            assert fragment.strip(" ,:;'") in known_messages, f"docs/troubleshooting.md quotes {fragment!r}, which no source says (of {message!r})"


def the_pictures_are_what_their_scripts_draw(_, __):
    assert diagrams.main(check=True) == 0, "tools/diagrams.py writes them again"
    assert record_session.main("--check") == 0, "tools/record_session.py --draw writes it again"


def main():
    slipway = str(pathlib.Path(sys.argv[1]).resolve())
    for test in (links_lead_somewhere, paths_named_in_the_tour_exist, the_errors_on_the_page_are_those_of_the_program,
                  the_pictures_are_what_their_scripts_draw,
                  the_reference_is_what_the_program_says, the_page_on_gpus_is_what_the_program_counts,
                  the_configs_can_be_planned, the_page_on_data_runs_as_it_stands, the_three_promises_of_the_readme_hold,
                  the_readme_runs_as_it_stands):
        with tempfile.TemporaryDirectory() as folder:
            test(slipway, pathlib.Path(folder))
        print(f"ok {test.__name__}", flush=True)


if __name__ == "__main__":
    main()
