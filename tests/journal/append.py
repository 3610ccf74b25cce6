"""Adds finished trials to a study, one after another, and prints their numbers: append.py JOURNAL STUDY COUNT NAME"""

import json
import sys

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

optuna.logging.set_verbosity(optuna.logging.WARNING)
path, name, count, who = sys.argv[1:]
study = optuna.load_study(study_name=name, storage=JournalStorage(JournalFileBackend(path)))
study.sampler = optuna.samplers.RandomSampler()
print("ready", flush=True)
numbers = []
for i in range(int(count)):
    trial = study.ask()
    trial.suggest_categorical("layer 0", ["int4", "fp8", "f32"])
    trial.set_user_attr("who", who)
    study.tell(trial, i / 8)
    numbers.append(trial.number)
print(json.dumps(numbers))
