"""Prints as JSON what Optuna makes of a journal: dump.py JOURNAL"""

import datetime
import json
import math
import sys

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

optuna.logging.set_verbosity(optuna.logging.WARNING)
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def plain(value):
    """The value in strict JSON: what Python adds to it becomes strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in value)
    if isinstance(value, dict):
        return {plain(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value


def microseconds(time):
    if time is None:
        return None
    return (time.astimezone(datetime.timezone.utc) - EPOCH) // datetime.timedelta(microseconds=1)


def trial(t):
    return {
        "number": t.number,
        "state": int(t.state),
        "params": [[name, value] for name, value in t.params.items()],
        "kinds": [type(t.distributions[name]).__name__ for name in t.params],
        "values": t.values,
        "intermediate_values": [[step, value] for step, value in t.intermediate_values.items()],
        "user_attrs": t.user_attrs,
        "system_attrs": t.system_attrs,
        "datetime_start": microseconds(t.datetime_start),
        "datetime_complete": microseconds(t.datetime_complete),
    }


storage = JournalStorage(JournalFileBackend(sys.argv[1]))
studies = []
for frozen in storage.get_all_studies():
    study = optuna.load_study(study_name=frozen.study_name, storage=storage)
    studies.append(
        {
            "name": study.study_name,
            "directions": [int(direction) for direction in study.directions],
            "user_attrs": study.user_attrs,
            "system_attrs": frozen.system_attrs,
            "trials": [trial(t) for t in study.trials],
            "best": sorted(t.number for t in study.best_trials),
        }
    )
json.dump(plain(studies), sys.stdout)
