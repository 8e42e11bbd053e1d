"""A process that carries out actions in children of its own, which are killed where it is told.

It reads a JSON object a line and answers with one. A child is forked from what is imported already, so that a kill
costs milliseconds; it counts the calls that change a disk, in every library that is written in Python, and can be cut
at any of them, before it or after it. Started with `tensorflow` as its argument it has that imported, too.
"""

import errno
import json
import os
import resource
import select
import signal
import sys
import threading
import time
from pathlib import Path

from deepscem_tui.engine import actions
from deepscem_tui.engine.datasets import probing
from deepscem_tui.engine.reporting import Reporter
from deepscem_tui.engine.runs import runs
from deepscem_tui.engine.stop import Stop
from deepscem_tui.outcome import explained

CHANGING = {
    "write", "writelines", "tofile", "fsync", "truncate", "ftruncate", "open", "close",
    "replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir",
}  # fmt: skip


TAKING = {"write", "writelines", "tofile", "fsync", "truncate", "ftruncate", "link", "mkdir"}


class Cutter:
    """Counts what may change a disk, and at one of these kills its own process, or says that the disk is full.

    Args:
        at: Number of the call, counted twice: before and after it.
        full: Number of the call that needs room and does not get it.
    """

    def __init__(self, at: int | None, full: int | None) -> None:
        self.at, self.full = at, full
        self.count = self.taking = 0

    def __call__(self, frame: object, event: str, called: object) -> None:
        name = getattr(called, "__name__", "")
        if event in ("c_call", "c_return") and name in CHANGING:
            if type(getattr(called, "__self__", "")) in (str, bytes):  # texts are replaced, too
                return
            if self.count == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.count += 1
            if event == "c_call" and name in TAKING:
                self.taking += 1
                if self.taking - 1 == self.full:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def work(asked: dict, said: int) -> int:
    """Carry out an action or go on with a run, and tell how many places there were to cut."""
    os.chdir(asked["folder"])
    cutter = Cutter(asked.get("at"), asked.get("full"))
    if "limit" in asked:  # Python ignores SIGXFSZ: writing more fails
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked["limit"], resource.RLIM_INFINITY))
    began = time.monotonic()
    error = ""
    if {"at", "full", "count"} & set(asked):  # watching calls takes time
        threading.setprofile(cutter)
        sys.setprofile(cutter)
    try:
        if "resume" in asked:
            runs.resume(Path(asked["resume"]), Reporter(), Stop())
        else:
            action = actions.ACTIONS[asked["action"]]
            parameters = actions.build(action, asked["parameters"])
            runs.perform(action, parameters, Reporter(), Stop(), Path("runs"))
        status = 0
    except Exception as raised:
        refused = explained(raised)
        status, error = refused.exit_code, str(refused)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]
    facts = {"count": cutter.count, "taking": cutter.taking, "seconds": time.monotonic() - began, "error": error}
    os.write(said, json.dumps(facts).encode())
    return status


def carry_out(asked: dict) -> dict:
    """In a child; its exit status is negative where a signal ended it."""
    heard, said = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(heard)
        try:
            os._exit(work(asked, said))
        except BaseException as error:
            os.write(said, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
            os._exit(1)
    os.close(said)
    if "seconds" in asked:
        select.select([heard], [], [], asked["seconds"])  # until it is over, if that is sooner
        os.kill(child, signal.SIGKILL)
    with os.fdopen(heard) as stream:
        text = stream.read()
    _, status = os.waitpid(child, 0)
    return {"status": os.waitstatus_to_exitcode(status), **(json.loads(text) if text else {})}


if __name__ == "__main__":
    probing._helper.look_through = lambda *_: ""  # type: ignore[method-assign]  # the files are ours, and time is short
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if "tensorflow" in sys.argv:
        import tensorflow  # noqa: F401

    for line in sys.stdin:
        answers.write(json.dumps(carry_out(json.loads(line))) + "\n")
        answers.flush()
