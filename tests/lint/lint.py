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
CPP_SUFFIXES = (".cpp", ".hpp", ".cu", ".cuh")


def output(*command):
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True).stdout


def changed_files(since):
    """The files to look at, newest change first; generated ones are left out."""
    tracked = output("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    names = tracked
    if since is not None:
        names = output("git", "diff", "--name-only", "HEAD").splitlines()
        names += output("git", "ls-files", "--others", "--exclude-standard").splitlines()
        names += output("git", "log", f"--max-count={since}", "--first-parent", "-m", "--name-only", "--format=").splitlines()
    tracked_set = set(tracked)
    return [name for name in dict.fromkeys(names) if name in tracked_set and (ROOT / name).is_file() and not GENERATED.search(first_line(name))]


def first_line(name):
    with open(ROOT / name, "rb") as file:
        return file.readline(400).decode(errors="replace")


def output_lines(*command):
    """What a tool says, a line per finding; the paths are relative to ROOT."""
    result = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = [line.replace(f"{ROOT}/", "") for line in result.stdout.splitlines() if line]
    return lines or ([f"{command[0]} ended with {result.returncode}"] if result.returncode else [])


def clang_format(tool, files, _):
    return [line for line in output_lines(tool, "--dry-run", *files) if FINDING.match(line)], files, []


def shellcheck(tool, files, _):
    return output_lines(tool, "--format=gcc", *files), files, []


def ruff(tool, files, _):
    return output_lines(tool, "check", "--quiet", "--output-format=concise", *files), files, []


def translation_units():
    """Every source that the preset `lint` compiles, once, with the files of ours that it includes, itself too."""
    output("cmake", "--preset", "lint")
    included = {}

    def closure(path, visited):
        if path in visited or not path.is_file():
            return visited
        visited.add(path)
        if path not in included:
            included[path] = [ROOT / name for name in INCLUDE.findall(path.read_text(errors="replace"))]
        for other in included[path]:
            closure(other, visited)
        return visited

    database = json.loads((ROOT / "build/lint/compile_commands.json").read_text())
    units = {pathlib.Path(entry["file"]) for entry in database}
    return {unit: {str(path.relative_to(ROOT)) for path in closure(unit, set())} for unit in sorted(units)}


def clang_tidy(tool, files, seconds):
    units = translation_units()
    end = time.monotonic() + seconds if seconds else None
    files = [name for name in files if any(name in covered_files for covered_files in units.values())]  # others are nvcc's
    remaining, findings, pending = files, set(), {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        while remaining or pending:
            while remaining and len(pending) < os.cpu_count() and not (end and time.monotonic() > end):
                unit = max((unit for unit in units if remaining[0] in units[unit]), key=lambda unit: len(units[unit].intersection(remaining)))
                covered_files = units.pop(unit)
                remaining = [name for name in remaining if name not in covered_files]
                pending[pool.submit(output_lines, tool, "-p", "build/lint", "--quiet", str(unit))] = unit
            if not pending:
                break
            for future in concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED).done:
                unit, tool_lines = pending.pop(future), future.result()
                new_findings = {line for line in tool_lines if FINDING.match(line) and (" error: " in line or line.split(":")[0] in files)}
                if not new_findings and any("rror" in line for line in tool_lines):
                    new_findings = {f"{unit.relative_to(ROOT)}: {' '.join(tool_lines)[:300]}"}  # such as a crash of clang-tidy
                findings |= new_findings
    return sorted(findings), [name for name in files if name not in remaining], remaining


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--since", type=int, metavar="N")
    group.add_argument("--all", action="store_true")
    parser.add_argument("--seconds", type=float, help="after which clang-tidy starts on no other file")
    args = parser.parse_args()
    try:
        files = changed_files(args.since)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"lint: git does not say which files there are: {error}")
        return 77

    code = [name for name in files if name.endswith(CPP_SUFFIXES)]
    scripts = [name for name in files if name.endswith(".sh") or (not pathlib.Path(name).suffix and first_line(name).startswith("#!"))]
    python = [name for name in files if name.endswith(".py")]
    missing, num_findings = 0, 0
    for run, targets in ((clang_format, code), (shellcheck, scripts), (ruff, python), (clang_tidy, code)):
        name = run.__name__.replace("_", "-")
        tool = shutil.which(name, path=f"{ROOT}/build/oracle/bin{os.pathsep}{os.environ['PATH']}")
        if not tool:
            print(f"lint: {name} is not installed and was left out (launch/install-deps.sh --tests, tools/oracle/setup.sh)")
            missing += 1
            continue
        start_s = time.monotonic()
        findings, checked, remaining = run(tool, targets, args.seconds) if targets else ([], [], [])
        for line in findings:
            print(line)
        remaining_note = f"; left for the nightly: {len(remaining)}" if remaining else ""
        counts = f"{len(findings) or 'no'} finding{'s' * (len(findings) != 1)} in {len(checked)} file{'s' * (len(checked) != 1)}"
        print(f"lint: {name}: {counts}{remaining_note} ({time.monotonic() - start_s:.0f} s)", flush=True)
        num_findings += len(findings)
    return 1 if num_findings else 77 if missing == 4 else 0


if __name__ == "__main__":
    sys.exit(main())
