"""Optuna drives the engine: each trial is a line to `anybit evaluate --stdin`, whose weights stay on the device.

    pip install optuna
    python examples/optuna_search.py [path of anybit] [trials] [more arguments of anybit evaluate …]
"""

import json
import subprocess
import sys

import optuna

FORMATS = ["int2(group=32)", "int3(group=32)", "int4(group=32)", "int8", "mxint8"]
LAYERS = [f"model.layers.{i}.{name}" for i in range(6) for name in ("self_attn.*", "mlp.*")]
anybit, trials = (sys.argv[1:] + ["anybit", "50"][len(sys.argv) - 1:])[:2]
engine = subprocess.Popen([anybit, "evaluate", "--stdin", *sys.argv[3:]], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True, bufsize=1)


def objective(trial):
    qconfig = {layer: trial.suggest_categorical(layer, FORMATS) for layer in LAYERS}
    print(json.dumps(qconfig), file=engine.stdin, flush=True)
    answer = json.loads(engine.stdout.readline())
    if "error" in answer:
        raise RuntimeError(answer["error"])
    trial.set_user_attr("bits_per_weight", answer["bits_per_weight"])
    return answer["kl"], answer["bytes"]


study = optuna.create_study(directions=["minimize", "minimize"], sampler=optuna.samplers.NSGAIISampler(seed=0))
study.optimize(objective, n_trials=int(trials), catch=RuntimeError)
for best in sorted(study.best_trials, key=lambda trial: trial.values[1]):
    print(f"{best.values[1] / 1e6:.3f} MB  KL {best.values[0]:.6f}  {best.user_attrs['bits_per_weight']:.3f} bits/weight")
