"""Takes Optuna's lock of a journal, says so, and holds it until killed, or gives it back where asked to:
lock.py JOURNAL symlink|open GRACE hold|release"""

import sys
import time

import optuna
from optuna.storages.journal import JournalFileOpenLock, JournalFileSymlinkLock

optuna.logging.set_verbosity(optuna.logging.ERROR)
path, kind, grace, then = sys.argv[1:]
lock = (JournalFileSymlinkLock if kind == "symlink" else JournalFileOpenLock)(path, grace_period=int(grace))
lock.acquire()
print("held", flush=True)
if then == "hold":
    time.sleep(600)
lock.release()
