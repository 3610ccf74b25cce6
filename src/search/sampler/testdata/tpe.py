"""Numbers of Optuna's TPE to compare with.

    pip install optuna==5.0.0 && python tpe.py > tpe.json
    pip install optuna==4.4.0 && python tpe.py > tpe_hypervolume.json

Both files within a minute. Under version 4 only the weights of good trials by hypervolume are written, which
version 5 no longer has. Histories are random; a trial that `failed` is given to Optuna as one that violates a
constraint by far more than any other, one over the budget by as many bytes as it is over.
"""

import json
import random
import statistics

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.samplers._tpe import sampler as tpe
from optuna.trial import TrialState, create_trial

optuna.logging.set_verbosity(optuna.logging.ERROR)
VERSION = int(optuna.__version__.split(".")[0])


def history(seed, choices, objectives, n, bytes_=None, most=None, ties=False):
    """`n` trials: mostly complete ones, some failed or running."""
    rng = random.Random(seed)
    trials = []
    for number in range(n):
        point = [rng.randrange(c) for c in choices]
        state = rng.choice(["complete"] * 8 + ["running", "failed"])
        # Objectives that are at odds with each other, so that fronts have many members.
        first = rng.random() * 3
        values = [first] + [abs(rng.gauss(0, 0.3)) + 1 / (0.2 + first) + k * rng.random() for k in range(1, objectives)]
        values = [float(round(v * 2)) if ties else round(v, 9) for v in values]
        trial = {"number": number, "point": point, "state": state, "values": values if state == "complete" else []}
        if most is not None:
            trial["over"] = max(0, sum(b[c] for b, c in zip(bytes_, point)) - most)
        trials.append(trial)
    return trials


def frozen(trial, choices, objectives):
    names = [f"x{d:02}" for d in range(len(choices))]
    over = 1e30 if trial["state"] == "failed" else trial.get("over", 0)
    running = trial["state"] == "running"
    made = create_trial(
        state=TrialState.RUNNING if running else TrialState.COMPLETE,
        values=None if running else trial["values"] or [1e9] * objectives,
        params=dict(zip(names, trial["point"])),
        distributions={name: CategoricalDistribution(list(range(c))) for name, c in zip(names, choices)},
        system_attrs={} if running else {"constraints": [over]} if VERSION < 5 else {},
        **({} if running or VERSION < 5 else {"constraints": {"bytes": over}}),
    )
    made.number = trial["number"]
    return made


def case(name, seed, choices, objectives, n, gamma, **more):
    trials = history(seed, choices, objectives, n, **more)
    study = optuna.create_study(directions=["minimize"] * objectives)
    names = [f"x{d:02}" for d in range(len(choices))]
    space = {n: CategoricalDistribution(list(range(c))) for n, c in zip(names, choices)}
    all_ = [frozen(t, choices, objectives) for t in trials]
    finished = sum(t["state"] != "running" for t in trials)
    gammas = {"optuna": tpe.default_gamma, "hyperopt": tpe.hyperopt_default_gamma}
    if objectives > 1:
        gammas["optuna"] = (lambda n: int(np.ceil(0.1 * n))) if VERSION < 5 else tpe.default_gamma_multiobjective
    count = gammas[gamma](finished)
    if VERSION < 5:
        below, _ = tpe._split_trials(study, all_, count, True)
        weights = tpe._calculate_weights_below_for_multi_objective(study, below, lambda t: t.system_attrs["constraints"])
        return {
            "name": name, "choices": choices, "objectives": objectives, "gamma": gamma, "trials": trials,
            "below": [t.number for t in below], "weights": list(weights),
        }
    below, above = tpe._split_trials(study, all_, count)
    sampler = tpe.TPESampler(multivariate=True, seed=0)
    rng = random.Random(seed + 1)
    points = [[rng.randrange(c) for c in choices] for _ in range(5)] + [t["point"] for t in trials[:2]]
    out = {
        "name": name, "choices": choices, "objectives": objectives, "gamma": gamma,
        "bytes": more.get("bytes_"), "most": more.get("most"), "trials": trials,
        "below": [t.number for t in below], "above": [t.number for t in above], "points": points,
    }
    for kind, part in (("below", below), ("above", above)):
        whole = sampler._build_parzen_estimator(study, space, part, kind == "below")
        asked = {n: np.array([p[d] for p in points]) for d, n in enumerate(names)}
        out[f"log_{kind}"] = list(whole.log_pdf(asked))
        single = []
        for n, c in zip(names, choices):
            one = sampler._build_parzen_estimator(study, {n: space[n]}, part, kind == "below")
            single.append(list(np.exp(one.log_pdf({n: np.arange(c)}))))
        out[f"single_{kind}"] = single
    return out


CHOICES = [3, 5, 2, 8, 4, 1, 3]
BYTES = [[(c + 1) * (10 + d) for c in range(n)] for d, n in enumerate(CHOICES)]
CASES = [
    ("few", 1, CHOICES, 1, 12, "optuna", {}),
    ("weights are a ramp", 2, CHOICES, 1, 90, "optuna", {}),
    ("most good ones", 3, CHOICES, 1, 280, "optuna", {}),
    ("hyperopt", 4, CHOICES, 1, 130, "hyperopt", {}),
    ("ties", 5, CHOICES, 1, 60, "optuna", {"ties": True}),
    ("budget", 6, CHOICES, 1, 90, "optuna", {"bytes_": BYTES, "most": 230}),
    ("hardly anything fits", 7, CHOICES, 1, 90, "optuna", {"bytes_": BYTES, "most": 150}),
    ("two objectives", 8, CHOICES, 2, 150, "optuna", {}),
    ("two objectives, budget", 9, CHOICES, 2, 150, "optuna", {"bytes_": BYTES, "most": 230}),
    ("two objectives, ties", 10, CHOICES, 2, 150, "optuna", {"ties": True}),
    ("two objectives, many good", 11, CHOICES, 2, 300, "optuna", {}),
    ("three objectives", 12, CHOICES, 3, 200, "optuna", {}),
    ("four objectives", 13, CHOICES, 4, 120, "optuna", {}),
]

# A problem of 12 dimensions with 4 candidates; candidate c costs c + 1. Neighbours that agree are worse by 0.2.
TABLE_RNG = random.Random(5)
TABLE = [sorted((round(TABLE_RNG.lognormvariate(-1, 1), 3) for _ in range(4)), reverse=True) for _ in range(12)]
REFERENCE = [30.0, 49.0]


def quality(point):
    return sum(t[c] for t, c in zip(TABLE, point)) + sum(0.2 for a, b in zip(point, point[1:]) if a == b)


def cost(point):
    return float(sum(c + 1 for c in point))


def study(kind, seed, trials):
    samplers = {
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "joint": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=False),
        "single": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=False, constant_liar=False),
        "two": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=False, constant_liar=False),
        "two_joint": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=False),
    }
    two = kind.startswith("two")

    def objective(trial):
        point = [trial.suggest_categorical(f"x{d:02}", list(range(4))) for d in range(12)]
        return (quality(point), cost(point)) if two else quality(point)

    made = optuna.create_study(directions=["minimize"] * (2 if two else 1), sampler=samplers[kind]())
    made.optimize(objective, n_trials=trials)
    if not two:
        return made.best_value
    front = np.array([t.values for t in made.best_trials])
    return optuna._hypervolume.compute_hypervolume(front, np.array(REFERENCE))


if __name__ == "__main__":
    cases = [case(*c[:6], **c[6]) for c in CASES if VERSION >= 5 or (c[3] > 1 and "most" not in c[6] and c[4] <= 200)]
    out = {"optuna": optuna.__version__, "cases": cases}
    if VERSION >= 5:
        out["table"], out["reference"], out["studies"] = TABLE, REFERENCE, []
        for kind in ("random", "joint", "single", "two", "two_joint"):
            for trials in (50, 120):
                values = [study(kind, seed, trials) for seed in range(20)]
                mean, deviation = statistics.mean(values), statistics.stdev(values)
                out["studies"].append({"kind": kind, "trials": trials, "mean": mean, "deviation": deviation})
    print(json.dumps(out))
