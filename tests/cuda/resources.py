"""Compiles kernels/cuda for every architecture, with warnings as errors, and holds what ptxas reports to a table.

    resources.py NVCC OUT            fails on a warning, a spill, or a kernel that needs more than tests/cuda/resources.json allows
    resources.py NVCC OUT --update   writes that table

OUT is a folder for objects. For each kernel the table has the most registers and the most static shared memory (bytes) over the
architectures; a kernel that needs less passes, so that a table made with one compiler serves a better one.
"""
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = ROOT / "tests" / "cuda" / "resources.json"
ARCHITECTURES = ("sm_80", "sm_90a", "sm_100")
# 554: EDG thinks that Matrix<const T> has no use for its conversion; it is Matrix<T>'s.
FLAGS = ["-std=c++20", "-fmad=false", "--expt-relaxed-constexpr", "-diag-suppress", "554", "-Werror", "all-warnings", "-Xptxas", "-v", '-DSLIPWAY_VERSION="resources"',
         "-Xcompiler", "-Wall,-Wextra,-Wno-unknown-pragmas", f"-I{ROOT}"]
ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
REGISTERS = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")
SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")


def compile_and_measure(nvcc, source, out):
    """{(mangled kernel, architecture): (registers, shared bytes, spilled bytes)}."""
    launcher = ["ccache"] if shutil.which("ccache") else []  # which keeps what ptxas reports, too
    command = [*launcher, nvcc, *FLAGS, *(f"-gencode=arch={a.replace('sm', 'compute')},code={a}" for a in ARCHITECTURES), "-c", source,
               "-o", out / (source.stem + ".o")]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(f"{source.name} does not compile:\n{result.stdout}{result.stderr}")
    usage, kernel, spilled = {}, None, 0
    for line in result.stderr.splitlines():
        if entry := ENTRY.search(line):
            kernel, spilled = entry.groups(), 0
        elif spills := SPILLS.search(line):
            spilled = sum(map(int, spills.groups()))
        elif kernel and (used := REGISTERS.search(line)):
            shared = SHARED.search(line)
            usage[kernel] = (int(used[1]), int(shared[1]) if shared else 0, spilled)
            kernel = None
    return usage


def demangle(mangled):
    """Names as people read them, without what all of them share."""
    result = subprocess.run(["c++filt"], input="\n".join(mangled), capture_output=True, text=True, check=True)
    shared = re.compile(r"slipway::(cuda::)?|\(anonymous namespace\)::|_NV_ANON_NAMESPACE::|^void ")
    return {symbol: re.sub(r"\(.*\)$", "", shared.sub("", name)) for symbol, name in zip(mangled, result.stdout.splitlines(), strict=True)}


def check_tensor_cores(nvcc, out):
    """Faults: attention's kernels in bf16 that multiply without tensor cores, and those in f32 that use them."""
    faults, num_bf16_kernels = [], 0
    for source in ("attention.cu", "attention_grad.cu"):
        ptx = out / (source + ".ptx")
        subprocess.run([nvcc, *(flag for flag in FLAGS if flag not in ("-Xptxas", "-v")), "-arch=sm_80", "-ptx", ROOT / "kernels" / "cuda" / source, "-o", ptx], check=True, capture_output=True)
        for entry in re.split(r"\n(?:\.weak )?\.?(?:visible )?\.entry ", ptx.read_text())[1:]:
            kernel = entry.split("(")[0].strip()
            is_bf16, is_f32 = "bf16" in kernel, "_f32" in kernel
            num_bf16_kernels += is_bf16
            if is_bf16 and "mma.sync.aligned.m16n8k16.row.col.f32.bf16" not in entry:
                faults.append(f"{kernel} multiplies without tensor cores")
            if is_f32 and "mma.sync" in entry:
                faults.append(f"{kernel} is for f32 and uses tensor cores")
    return faults if num_bf16_kernels else ["no kernel of attention in bf16 was found"]


def main(nvcc, out, *options):
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    sources = sorted((ROOT / "kernels" / "cuda").glob("*.cu"))
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        usage = {}
        for file_usage in pool.map(lambda source: compile_and_measure(nvcc, source, out), sources):
            usage |= file_usage
    names = demangle(sorted({kernel for kernel, _ in usage}))
    max_usage, spilled = {}, []
    for (kernel, architecture), (registers, shared, spills) in sorted(usage.items()):
        row = max_usage.setdefault(names[kernel], {"registers": 0, "shared": 0})
        row["registers"], row["shared"] = max(row["registers"], registers), max(row["shared"], shared)
        if spills:
            spilled.append(f"{names[kernel]} spills {spills} bytes on {architecture}")
    if "--update" in options:
        lines = [f"  {json.dumps(kernel)}: {json.dumps(row)}" for kernel, row in sorted(max_usage.items())]
        TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        print(f"{TABLE.relative_to(ROOT)}: {len(max_usage)} kernels")
        return 1 if spilled else 0
    allowed = json.loads(TABLE.read_text())
    faults = spilled + check_tensor_cores(nvcc, out)
    for kernel, row in max_usage.items():
        if kernel not in allowed:
            faults.append(f"{kernel} is not in {TABLE.name}; look at its {row['registers']} registers, then add it by --update")
            continue
        faults += [f"{kernel} needs {row[what]} {unit}, the table allows {allowed[kernel][what]}"
                   for what, unit in (("registers", "registers"), ("shared", "bytes of shared memory"))
                   if row[what] > allowed[kernel][what]]
    faults += [f"{kernel} is in {TABLE.name} and nowhere else; remove it by --update" for kernel in allowed.keys() - max_usage.keys()]
    for fault in faults:
        print(fault)
    print(f"{len(max_usage)} kernels of {len(sources)} files for {', '.join(ARCHITECTURES)}: {len(faults)} faults")
    return 1 if faults or not max_usage else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
