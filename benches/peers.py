"""Times anybit beside burn (wgpu, WGSL) and ggml (Vulkan) on one device, case by case in turns, and prints ratios; also
the ratios inside anybit that its kernels are to reach: fused to naive, fewer bits to more.

    apt-get install cmake clang libclang-dev glslc libvulkan-dev spirv-headers
    python3 benches/peers.py [--rounds 3] [--cases gemv,attention] [--skip-ggml] [--skip-burn] [--out FILE.json]

The packages are Debian's and for ggml alone, which is built from the sources in a crate of llama.cpp; besides Rust and a
Vulkan driver nothing else is needed. Debian 12 has Vulkan headers that are too old: unpack those of libvulkan-dev of Debian
13 (dpkg -x) and set VULKAN_SDK to the folder that has their `include`. The first build of the peers takes half an hour on
two cores.

Every engine multiplies x of M x K by W of N x K and verifies its result before and after it is timed; one that is wrong has
no time. All times are by the wall clock with the wait for the device, after shaders are compiled and tuned, and copies of
the weights that exceed the last-level cache take turns. Where an engine can keep weights in several ways, its fastest is
timed. A time is the median over the rounds of the medians of a run, a ratio that of two such times; the least and the
largest ratio of a single round stand beside it.

ggml takes a software driver only when told to; this script sets GGML_VK_VISIBLE_DEVICES=0 for it unless that is set. On a
machine with several GPUs choose one for all three (CUBECL_WGPU_DEFAULT_DEVICE is burn's); different devices are an error.

Exit codes: 0 everything was timed; 1 some case has no time; 2 an error.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
GEMV = "1x4096x4096"
GEMM = "512x1024x1024"
SECONDS_OF_A_RUN = 3600


class Run(NamedTuple):
    """One process: an engine with one case."""

    engine: str
    op: str
    format: str  # None where the op has none
    shape: str

    def __str__(self):
        return " ".join(part for part in self if part)


class Ratio(NamedTuple):
    """`slow` over `fast`, each a run and the side of it."""

    fast: Run
    fast_side: str
    slow: Run
    slow_side: str
    wanted: float

    @property
    def name(self):
        fast = " ".join(part for part in self.fast[1:] if part)
        if self.fast == self.slow:
            return f"{fast} {self.fast_side} against {self.slow_side}"
        engine = "" if self.slow.engine == "anybit" else f"{self.slow.engine} "
        return f"{fast} against {engine}{self.slow.format}"


def peer(op, shape, spec, engine, format, wanted):
    return Ratio(Run("anybit", op, spec, shape), "fused", Run(engine, op, format, shape), "peer", wanted)


def fusion(op, shape, spec, wanted):
    run = Run("anybit", op, spec, shape)
    return Ratio(run, "fused", run, "naive", wanted)


def narrow(op, shape, spec, than, wanted):
    return Ratio(Run("anybit", op, spec, shape), "fused", Run("anybit", op, than, shape), "fused", wanted)


RATIOS = [
    peer("gemv", GEMV, "int4(group=32)", "ggml", "q4_0", 5.0),
    peer("gemv", GEMV, "int4(group=32)", "burn", "q8", 6.0),
    peer("gemm", GEMM, "f32", "ggml", "f32", 4.0),
    peer("gemm", GEMM, "f32", "burn", "f32", 1.8),
    peer("gemm", GEMM, "int4(group=32)", "burn", "q8", 1.8),
    peer("gemm", GEMM, "mxint8", "burn", "q8", 1.8),
    peer("gemm-int", GEMM, "int8@int8", "ggml", "q8_0", 4.0),
    fusion("gemv", GEMV, "int4(group=32)", 6.0),
    fusion("gemv", GEMV, "mxint8", 5.0),
    fusion("gemv", GEMV, "base11", 5.0),
    narrow("gemm-int", GEMM, "int4@int4", "int8@int8", 1.6),
    narrow("gemm-int", GEMM, "int2@int2", "int8@int8", 3.0),
    fusion("attention", "512x512x64", None, 2.0),
    fusion("attention", "2048x2048x64", None, 2.0),
]


class Failed(Exception):
    """Ends the script with a message."""


class Wrong(Exception):
    """A run that has no time."""


def call(command, env=None):
    """What `command` printed; its standard error goes through."""
    try:
        return subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, env=env, check=True,
                              timeout=SECONDS_OF_A_RUN).stdout
    except FileNotFoundError:
        raise Failed(f"cannot run {command[0]}: no such program; install it or give its path") from None


def build(folder, binary, *features):
    """Builds `binary` of the crate in `folder`; its path."""
    command = ["cargo", "build", "--release", "--manifest-path", folder / "Cargo.toml", "--bin", binary, *features,
               "--message-format", "json-render-diagnostics"]
    try:
        lines = call(command).splitlines()
    except subprocess.CalledProcessError as error:
        raise Failed(f"cannot build {binary} (cargo ended with {error.returncode}, see above)") from None
    for message in map(json.loads, lines):
        if message.get("executable") and message["target"]["name"] == binary:
            return Path(message["executable"])
    raise Failed(f"cargo built {binary} but names no executable; want one in its messages")


def binaries(args, engines):
    """Paths of the engines' programs."""
    paths = {}
    for engine in sorted(engines):
        given = getattr(args, engine)
        if given and not given.is_file():
            raise Failed(f"--{engine} {given}: no such file; leave it out to build the program")
        if given:
            paths[engine] = given.resolve()
        elif engine == "anybit":
            paths[engine] = build(ROOT, "anybit")
        else:
            try:
                paths[engine] = build(ROOT / "benches" / "peers", f"peer-{engine}", "--features", engine)
            except Failed as error:
                needs = "; are the packages there that the head of this script lists?" if engine == "ggml" else ""
                raise Failed(f"{error}{needs} Give --skip-{engine} to do without it") from None
    return paths


class Bench:
    """Runs processes and keeps what they say."""

    def __init__(self, args, paths):
        self.args = args
        self.paths = paths
        self.device = None
        self.versions = {}
        self.reports = []
        self.failures = []

    def take(self, run, number):
        """Seconds by side of `run` in round `number`; none where it is wrong."""
        try:
            seconds = self.anybit(run) if run.engine == "anybit" else self.peer(run)
        except (Wrong, subprocess.SubprocessError) as error:
            self.failures.append({"round": number, "run": str(run), "error": str(error)})
            print(f"ERROR: round {number}: {run}: {error}", file=sys.stderr)
            return {}
        self.reports.append({"round": number, **run._asdict(), "seconds": seconds})
        times = ", ".join(f"{side} {show(time['median'])}" for side, time in seconds.items())
        print(f"round {number}: {run}: {times}", file=sys.stderr)
        return {side: time["median"] for side, time in seconds.items()}

    def anybit(self, run):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "kernels.json"
            command = [self.paths["anybit"], "bench", "kernels", "--op", run.op, "--shape", run.shape, "--clock", "wall",
                       "--samples", self.args.samples, "--seconds", self.args.seconds, "--json", file]
            call(command + (["--format", run.format] if run.format else []))
            document = json.loads(file.read_text())
        self.same_device(document["device"], "anybit")
        self.versions["anybit"] = f"anybit {document['version']}"
        (row,) = document["rows"]
        if row["failure"]:
            raise Wrong(row["failure"])
        kernels = {side: row[side]["kernels"] for side in row["measurements"]}
        return {side: {**times, "kernels": kernels[side]} for side, times in row["measurements"].items()}

    def peer(self, run):
        env = dict(os.environ)
        if self.device and self.device["kind"] == "CPU":
            env.setdefault("GGML_VK_VISIBLE_DEVICES", "0")
        case = f"{run.op}:{run.format}:{run.shape}"
        lines = call([self.paths[run.engine], "--case", case, "--samples", self.args.samples], env).splitlines()
        if len(lines) != 1:
            raise Wrong(f"printed {len(lines)} lines; want one of JSON")
        report = json.loads(lines[0])
        self.same_device({"name": report["device"]}, run.engine)
        self.versions[run.engine] = report["peer"]
        rest = {key: report[key] for key in ("layout", "copies", "burst", "nmse", "samples")}
        return {"peer": {"median": report["median_s"], "min": report["min_s"], **rest}}

    def same_device(self, device, engine):
        if self.device is None:
            self.device = device
        if device["name"] != self.device["name"]:
            raise Failed(f"{engine} runs on {device['name']}, the others on {self.device['name']}; want one device for all: "
                         "see the head of this script")


def show(seconds):
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1.0:
            return f"{seconds * factor:.2f} {unit}"
    return f"{seconds * 1e6:.1f} µs"


def row(ratio, rounds):
    """A row of the result: medians over those of `rounds` that have both times."""
    pairs = [(times[ratio.fast].get(ratio.fast_side), times[ratio.slow].get(ratio.slow_side)) for times in rounds]
    pairs = [pair for pair in pairs if None not in pair]
    result = {"case": ratio.name, "fast": {**ratio.fast._asdict(), "side": ratio.fast_side},
              "slow": {**ratio.slow._asdict(), "side": ratio.slow_side}, "wanted": ratio.wanted, "ratio": None}
    if len(pairs) == len(rounds):
        fast, slow = (statistics.median(times) for times in zip(*pairs))
        ratios = [slow / fast for fast, slow in pairs]
        result.update(fast_s=fast, slow_s=slow, ratio=slow / fast, least=min(ratios), most=max(ratios))
    return result


def table(rows):
    lines = ["| case | anybit | peer | ratio | wanted |", "|---|--:|--:|--:|--:|"]
    for row in rows:
        cells = ["-", "-", "-"]
        if row["ratio"] is not None:
            ratio = f"{row['ratio']:.2f}x ({row['least']:.2f} to {row['most']:.2f})"
            cells = [show(row["fast_s"]), show(row["slow_s"]), ratio]
        lines.append(f"| {row['case']} | {' | '.join(cells)} | {row['wanted']:g}x |")
    return "\n".join(lines)


def git(*args):
    try:
        return subprocess.run(["git", "-C", str(ROOT), *args], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def write(path, document):
    """Whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(document, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", help="parts of names of cases with commas between them (default: all, see --list)")
    parser.add_argument("--list", action="store_true", help="print the names of the cases and end")
    parser.add_argument("--skip-burn", action="store_true")
    parser.add_argument("--skip-ggml", action="store_true")
    parser.add_argument("--samples", type=int, default=10, help="samples of a run (default: 10)")
    parser.add_argument("--seconds", type=float, default=2.0, help="after which anybit ends a run with 3 (default: 2)")
    for engine in ("anybit", "burn", "ggml"):
        parser.add_argument(f"--{engine}", type=Path, metavar="FILE", help="its program, if that is built already")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write all figures")
    args = parser.parse_args()
    for name, value in (("--rounds", args.rounds), ("--samples", args.samples)):
        if value < 1:
            raise Failed(f"{name} {value}: want at least 1")
    if args.out and not args.out.resolve().parent.is_dir():
        raise Failed(f"--out {args.out}: no folder {args.out.resolve().parent}; make it first")
    return args


def chosen(args):
    skipped = {engine for engine in ("burn", "ggml") if getattr(args, f"skip_{engine}")}
    parts = [part.strip() for part in (args.cases or "").split(",") if part.strip()]
    ratios = [ratio for ratio in RATIOS if ratio.slow.engine not in skipped]
    for part in parts:
        if not any(part in ratio.name for ratio in ratios):
            raise Failed(f"--cases: no case has {part!r} in its name; want some of\n  " + "\n  ".join(r.name for r in ratios))
    return [ratio for ratio in ratios if not parts or any(part in ratio.name for part in parts)]


def command(words):
    """The command line without the folders of this machine."""
    return [Path(word).name if Path(word).is_absolute() else word for word in words]


def main():
    args = arguments()
    ratios = chosen(args)
    if args.list:
        print("\n".join(ratio.name for ratio in ratios))
        return 0
    started = datetime.datetime.now(datetime.timezone.utc)
    commit, changed = git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    bench = Bench(args, binaries(args, {run.engine for ratio in ratios for run in (ratio.fast, ratio.slow)}))
    rounds = []
    for number in range(1, args.rounds + 1):
        times = {}
        for ratio in ratios:
            for run in (ratio.fast, ratio.slow):
                if run not in times:
                    times[run] = bench.take(run, number)
        rounds.append(times)
    rows = [row(ratio, rounds) for ratio in ratios]
    print(table(rows))
    if args.out:
        write(args.out.resolve(), {
            "anybit_peers": 1, "command": command(sys.argv), "date": started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "commit": commit, "changed": changed,
            "device": bench.device, "host": platform.platform(), "cpus": os.cpu_count(), "versions": bench.versions,
            "clock": "wall", "rounds": args.rounds, "rows": rows, "runs": bench.reports, "failures": bench.failures,
        })
    return 0 if all(row["ratio"] is not None for row in rows) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as error:
        print(f"ERROR: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
