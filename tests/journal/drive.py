"""Writes a journal with everything Optuna has, and with records that it passes over: drive.py JOURNAL"""

import json
import sys

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

optuna.logging.set_verbosity(optuna.logging.CRITICAL)
path = sys.argv[1]
backend = JournalFileBackend(path)
storage = JournalStorage(backend)

# Every kind of parameter, every state.
mixed = optuna.create_study(study_name="mixed", storage=storage)
mixed.set_user_attr("nested", {"list": [1, 2.5, None, True, "\u00e9\U0001f600"], "nan": float("nan")})
mixed.set_user_attr("nested", {"list": [1, 2.5, None, True, "\u00e9\U0001f600"], "inf": float("-inf")})
mixed.set_user_attr("undecodable", "a\udcffb\ud83d")
storage.set_study_system_attr(mixed._study_id, "program", [1e-300, 0.1 + 0.2, 123456789012345678])
mixed.enqueue_trial({"x": 0.25, "kind": "b"}, user_attrs={"why": "first"})


def objective(trial):
    x = trial.suggest_float("x", -1.0, 1.0)
    trial.suggest_float("rate", 1e-7, 1e-2, log=True)
    trial.suggest_float("half", 0, 10, step=0.5)
    trial.suggest_int("n", -5, 100)
    trial.suggest_int("width", 1, 4096, log=True)
    trial.suggest_categorical("kind", ["a", "b", "quote \" \\ \n \u00e9"])
    trial.suggest_categorical("any", [None, True, 2, 2.5, "NaN Infinity", float("nan"), float("inf")])
    if trial.number % 2:
        trial.suggest_int(f"only in {trial.number}", 0, 3)
    for step in [3, 1, 2, 1]:
        trial.report(x / step, step)
    trial.report(float("nan"), 7)
    trial.set_user_attr("square", x * x)
    trial.set_user_attr("square", {"of": x})
    if trial.number == 3:
        raise RuntimeError("planned")
    if trial.number == 4:
        raise optuna.TrialPruned()
    if trial.number == 5:
        return float("nan")
    if trial.number == 6:
        return float("inf")
    return x * x / 3


mixed.optimize(objective, n_trials=12, catch=(RuntimeError,))
mixed.ask()  # stays running
mixed.add_trial(
    create_trial(
        params={"x": 1, "kind": "b"},
        distributions={"x": FloatDistribution(-1.0, 1.0), "kind": CategoricalDistribution(["a", "b"])},
        value=-1,
        user_attrs={"added": True},
        intermediate_values={0: 0.5, 10: 0.25},
    )
)
mixed.add_trial(create_trial(state=TrialState.FAIL))

# Several objectives, and studies between each other's trials.
many = optuna.create_study(study_name="many", storage=storage, directions=["minimize", "maximize"])
gone = optuna.create_study(study_name="gone", storage=storage, direction="maximize")


def two(trial):
    x, y = trial.suggest_float("x", 0, 1), trial.suggest_int("y", 0, 9)
    return x + y, x - y


for _ in range(6):
    many.optimize(two, n_trials=2)
    gone.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    mixed.optimize(objective, n_trials=1, catch=(RuntimeError,))
many.add_trial(
    create_trial(params={"y": 3}, distributions={"y": IntDistribution(0, 9)}, values=[-5.0, 1e22])
)
left = gone.ask()
mixed.enqueue_trial({"x": 0.5})  # stays waiting
optuna.delete_study(study_name="gone", storage=storage)

constrained = optuna.create_study(
    study_name="constrained",
    storage=storage,
    sampler=optuna.samplers.TPESampler(
        seed=1, n_startup_trials=3, constraints_func=lambda trial: (trial.params["x"] - 0.5, -1.0)
    ),
)
constrained.optimize(lambda trial: -trial.suggest_float("x", 0, 1), n_trials=8)
again = optuna.create_study(study_name="gone", storage=storage)
again.optimize(lambda trial: trial.suggest_float("x", 2, 3), n_trials=2)

# What other programs may have written. Optuna takes some of it and passes over the rest.
ids = {s.study_name: s._study_id for s in storage.get_all_studies()}
trials = {name: storage.get_all_trials(number) for name, number in ids.items()}
done, running = trials["mixed"][1]._trial_id, trials["mixed"][12]._trial_id
assert trials["mixed"][12].state == TrialState.RUNNING
START = {"datetime_start": "2024-02-29T23:59:59.999999+00:00"}
CATEGORY = {"name": "CategoricalDistribution", "attributes": {"choices": ["a", "b"]}}


def param(trial, name, value, distribution):
    text = distribution if isinstance(distribution, str) else json.dumps(distribution)
    return {
        "op_code": 5,
        "trial_id": trial,
        "param_name": name,
        "param_value_internal": value,
        "distribution": text,
    }


records = [
    {"op_code": 0, "study_name": "mixed", "directions": [2]},
    {"op_code": 1, "study_id": 99},
    {"op_code": 2, "study_id": 99, "user_attr": {"a": 1}},
    {"op_code": 3, "study_id": -1, "system_attr": {"a": 1}},
    {"op_code": 4, "study_id": 99, **START},
    {"op_code": 4, "study_id": 2, **START},
    {"op_code": 6, "trial_id": 9999, "state": 1, "values": [1.0], "datetime_complete": None},
    {"op_code": 8, "trial_id": done, "user_attr": {"late": 1}},
    {"op_code": 9, "trial_id": done, "system_attr": {"late": 1}},
    {"op_code": 7, "trial_id": done, "step": 1, "intermediate_value": 9.0},
    {"op_code": 6, "trial_id": done, "state": 3, "values": None},
    {"op_code": 6, "trial_id": running, "state": 0, "values": [3.0], **START},
    {"op_code": 8, "trial_id": left._trial_id, "user_attr": {"of": "a deleted study"}},
    param(done, "late", 0, CATEGORY),
    # Other choices, another kind, another scale: refused. Other bounds, Python's equality: taken.
    param(running, "kind", 0, CATEGORY),
    param(running, "x", 1, {"name": "IntDistribution", "attributes": {"low": 0, "high": 9}}),
    param(running, "rate", 0.5, {"type": "float", "low": 0.0, "high": 1.0}),
    param(running, "x", 40.5, {"type": "float", "low": 0.0, "high": 100.0, "step": 0.5}),
    param(running, "n", 3.0, {"type": "int", "low": 0, "high": 9}),
    param(
        running,
        "any",
        3,
        '{"type": "categorical", "choices": [null, 1, 2.0, 2.5, "NaN Infinity", NaN, Infinity]}',
    ),
    param(running, "old", 0.75, {"name": "UniformDistribution", "attributes": {"low": 0, "high": 1}}),
    param(running, "old", 0.5, {"name": "FloatDistribution", "attributes": {"low": 0, "high": 1}}),
    param(running, "old n", 2, {"name": "IntUniformDistribution", "attributes": {"low": 0, "high": 4}}),
    {"op_code": 10, "trial_id": [1, 2], "study_id": "mixed"},
    {"op_code": 10},
    {"op_code": 4, "study_id": ids["many"], "datetime_start": None, "state": 4},
    {"op_code": 4, "study_id": ids["many"], "datetime_start": "2024-01-01T12:00:00.000001+05:30"},
]
backend.append_logs([{"worker_id": "another", **record} for record in records])
