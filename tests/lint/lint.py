"""clang-format, shellcheck, ruff and clang-tidy over the source; one line per finding.

    lint.py --since N [--seconds S]    what the last N commits and the working tree changed; clang-tidy, the slow one,
                                       reads the newest files first and starts nothing after S seconds
    lint.py --all                      everything

A tool that is missing is skipped with a sentence. Ends with 1 when there is a finding, with 77 when no tool is here.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
GENERATED = re.compile(r"(Generated|Written) by tools/")  # in the first line
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
FINDING = re.compile(r"^(\S+?:\d+:\d+: (?:warning|error): .*)", re.MULTILINE)
ABOUT_CODE = (".cpp", ".hpp", ".cu", ".cuh")


def output(*command):
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True).stdout


def chosen(since):
    """The files to look at, newest change first; generated ones are left out."""
    tracked = output("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    names = tracked
    if since is not None:
        names = output("git", "diff", "--name-only", "HEAD").splitlines()
        names += output("git", "ls-files", "--others", "--exclude-standard").splitlines()
        names += output("git", "log", f"--max-count={since}", "--first-parent", "-m", "--name-only", "--format=").splitlines()
    here = set(tracked)
    return [name for name in dict.fromkeys(names) if name in here and (ROOT / name).is_file() and not GENERATED.search(first_line(name))]


def first_line(name):
    with open(ROOT / name, "rb") as file:
        return file.readline(400).decode(errors="replace")


def lines_of(*command):
    """What a tool says, a line per finding; the paths are relative to ROOT."""
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = [line.replace(f"{ROOT}/", "") for line in done.stdout.splitlines() if line]
    return lines or ([f"{command[0]} ended with {done.returncode}"] if done.returncode else [])


def clang_format(tool, files, _):
    return [line for line in lines_of(tool, "--dry-run", *files) if FINDING.match(line)], files, []


def shellcheck(tool, files, _):
    return lines_of(tool, "--format=gcc", *files), files, []


def ruff(tool, files, _):
    return lines_of(tool, "check", "--quiet", "--output-format=concise", *files), files, []


def translation_units():
    """Every source that the preset `lint` compiles, once, with the files of ours that it includes, itself too."""
    output("cmake", "--preset", "lint")
    included = {}

    def closure(path, seen):
        if path in seen or not path.is_file():
            return seen
        seen.add(path)
        if path not in included:
            included[path] = [ROOT / name for name in INCLUDE.findall(path.read_text(errors="replace"))]
        for other in included[path]:
            closure(other, seen)
        return seen

    database = json.loads((ROOT / "build/lint/compile_commands.json").read_text())
    units = {pathlib.Path(entry["file"]) for entry in database}
    return {unit: {str(path.relative_to(ROOT)) for path in closure(unit, set())} for unit in sorted(units)}


def clang_tidy(tool, files, seconds):
    units = translation_units()
    end = time.monotonic() + seconds if seconds else None
    files = [name for name in files if any(name in covers for covers in units.values())]  # others are nvcc's
    left, findings, running = files, set(), {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        while left or running:
            while left and len(running) < os.cpu_count() and not (end and time.monotonic() > end):
                unit = max((unit for unit in units if left[0] in units[unit]), key=lambda unit: len(units[unit].intersection(left)))
                covers = units.pop(unit)
                left = [name for name in left if name not in covers]
                running[pool.submit(lines_of, tool, "-p", "build/lint", "--quiet", str(unit))] = unit
            if not running:
                break
            for done in concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED).done:
                unit, said = running.pop(done), done.result()
                found = {line for line in said if FINDING.match(line) and (" error: " in line or line.split(":")[0] in files)}
                if not found and any("rror" in line for line in said):
                    found = {f"{unit.relative_to(ROOT)}: {' '.join(said)[:300]}"}  # such as a crash of clang-tidy
                findings |= found
    return sorted(findings), [name for name in files if name not in left], left


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = options.add_mutually_exclusive_group(required=True)
    which.add_argument("--since", type=int, metavar="N")
    which.add_argument("--all", action="store_true")
    options.add_argument("--seconds", type=float, help="after which clang-tidy starts on no other file")
    given = options.parse_args()
    try:
        files = chosen(given.since)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"lint: git does not say which files there are: {error}")
        return 77

    code = [name for name in files if name.endswith(ABOUT_CODE)]
    scripts = [name for name in files if name.endswith(".sh") or (not pathlib.Path(name).suffix and first_line(name).startswith("#!"))]
    python = [name for name in files if name.endswith(".py")]
    missing, found = 0, 0
    for run, subjects in ((clang_format, code), (shellcheck, scripts), (ruff, python), (clang_tidy, code)):
        name = run.__name__.replace("_", "-")
        tool = shutil.which(name, path=f"{ROOT}/build/oracle/bin{os.pathsep}{os.environ['PATH']}")
        if not tool:
            print(f"lint: {name} is not installed and was left out (launch/install-deps.sh --tests, tools/oracle/setup.sh)")
            missing += 1
            continue
        started = time.monotonic()
        findings, read, left = run(tool, subjects, given.seconds) if subjects else ([], [], [])
        for line in findings:
            print(line)
        rest = f"; left for the nightly: {len(left)}" if left else ""
        print(f"lint: {name}: {len(findings) or 'no'} finding{'s' * (len(findings) != 1)} in {len(read)} file{'s' * (len(read) != 1)}{rest} ({time.monotonic() - started:.0f} s)", flush=True)
        found += len(findings)
    return 1 if found else 77 if missing == 4 else 0


if __name__ == "__main__":
    sys.exit(main())
