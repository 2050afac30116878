"""Copies part of the Python standard library found on this machine into a folder: real text for the quickstart.

    python_source.py OUT --bytes 6000000

The choice is a function of the library alone: modules in the order of the hashes of their names, so that every corner of
the library is met, until the size is reached. Tests, caches and installed packages are left out.
"""

import argparse
import hashlib
import pathlib
import platform
import shutil
import sys
import sysconfig

EXCLUDED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "turtledemo"}
MAX_FILE_BYTES = 300_000  # larger ones are tables, such as pydoc_data/topics.py


def candidates(library):
    """Python files of the library in the order of their names' hashes."""
    paths = [path.relative_to(library) for path in library.rglob("*.py") if path.is_file()]
    paths = [path for path in paths if not EXCLUDED_FOLDERS & set(path.parts)]
    return sorted(paths, key=lambda path: hashlib.sha256(path.as_posix().encode()).digest())


def is_text(path):
    """Whether a file is UTF-8 of a useful size."""
    try:
        return 0 < path.stat().st_size <= MAX_FILE_BYTES and bool(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--bytes", type=int, default=6_000_000, help="stop when this much is copied")
    arguments = parser.parse_args()

    library = pathlib.Path(sysconfig.get_paths()["stdlib"])
    copied = copied_bytes = 0
    for path in candidates(library):
        if copied_bytes >= arguments.bytes:
            break
        if not is_text(library / path):
            continue
        (arguments.out / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(library / path, arguments.out / path)
        copied += 1
        copied_bytes += (library / path).stat().st_size
    if copied == 0:
        print(f"python_source: no Python files under {library}; install python3", file=sys.stderr)
        return 3
    print(f"{copied} files, {copied_bytes / 1e6:.1f} MB of the standard library of Python "
          f"{platform.python_version()} in {library} (PSF licence)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
