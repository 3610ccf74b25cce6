"""Trials per second of `anybit search` beside the usual loop (hyperopt_loop.py), in turns on one machine: same model, same
batch of 6 windows of 128 tokens, same space (weights and activations of every block linear at 2, 4 or 8 bits).

    pip install torch hyperopt safetensors tokenizers
    python benches/search_speed.py --anybit target/release/anybit --model assets/shakespeare \\
        --text assets/shakespeare/heldout.txt [--rounds 3] [--trials 60] [--json FILE]

A rate is trials over the time of the trial loop: proposing, measuring, recording. Loading, packing, uploading and the
compilation of kernels come before it on one side, the import of PyTorch on the other; both are left out. Prints medians
over the rounds, and the ratio of medians to the loop.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SPACE = "qlinear(bits=2),qlinear(bits=4),qlinear(bits=8)"
OBJECTIVE = "scalar(alpha=0.5,size=nominal_bytes)"


def loop(args):
    script = Path(__file__).with_name("hyperopt_loop.py")
    output = subprocess.run([sys.executable, script, "--model", args.model, "--text", args.text, "--trials",
                             str(args.trials), "--device", args.device], check=True, capture_output=True, text=True)
    report = json.loads(output.stdout)
    seconds = report["seconds_per_trial"]
    return report["trials_per_second"], seconds["sampler"] / sum(seconds.values())


def anybit(args, sampler):
    with tempfile.TemporaryDirectory() as folder:
        command = [args.anybit, "search", "--model", args.model, "--text", args.text, "--windows", "6", "--space", SPACE,
                   "--objective", OBJECTIVE, "--sampler", sampler, "--trials", str(args.trials), "--finals", "1",
                   "--out", f"{folder}/study", "--json"]
        output = subprocess.run(command, check=True, capture_output=True, text=True)
    report = json.loads(output.stdout)
    assert report["usage"]["reloaded_bytes"] == 0
    run = report["run"]
    spent = run["sampler_seconds"] + run["journal_seconds"] + run["evaluator_seconds"]
    return run["trials_per_second"], run["sampler_seconds"] / spent


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--anybit", default="target/release/anybit")
    parser.add_argument("--model", default="assets/shakespeare")
    parser.add_argument("--text", default="assets/shakespeare/heldout.txt")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--device", default="cpu", help="where PyTorch runs")
    parser.add_argument("--samplers", default="tpe,auto,random")
    parser.add_argument("--json", help="write the figures")
    args = parser.parse_args()
    contestants = {"hyperopt + PyTorch": lambda: loop(args)}
    for sampler in args.samplers.split(","):
        contestants[f"anybit {sampler}"] = lambda sampler=sampler: anybit(args, sampler)
    rates = {name: [] for name in contestants}
    for _ in range(args.rounds):
        for name, run in contestants.items():
            rates[name].append(run())
            print(f"{name}: {rates[name][-1][0]:.2f} trials/s", file=sys.stderr)
    base = statistics.median(rate for rate, _ in rates["hyperopt + PyTorch"])
    print("| loop | trials/s, median | least | most | ratio | sampler's share |\n|---|--:|--:|--:|--:|--:|")
    for name, runs in rates.items():
        values = [rate for rate, _ in runs]
        median, share = statistics.median(values), statistics.median(share for _, share in runs)
        print(f"| {name} | {median:.2f} | {min(values):.2f} | {max(values):.2f} | {median / base:.2f} | {share:.1%} |")
    if args.json:
        Path(args.json).write_text(json.dumps({"trials": args.trials, "rates": rates}, indent=1) + "\n")


if __name__ == "__main__":
    main()
