"""What every client's jobs share: names of their own, and one line a job in the form of TAP.

A job is a function; it passes when it returns. Usage: `python CLIENT.py HOST:PORT [JOB …]`.
"""

import os
import sys
import time
import traceback

BOOTSTRAP = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092"
RUN = f"{os.getpid()}-{time.time_ns() // 1000 % 100000000}"
JOBS = []

# Long enough for a machine that is busy; nothing waits that long when all is well.
PATIENCE_S = 60


def job(function):
    """Registers a job."""
    JOBS.append(function)
    return function


def name(what):
    """A topic or group that only this run has."""
    return f"{what}-{RUN}"


def equal(got, wanted, what="value"):
    """Fails with both sides."""
    if got != wanted:
        raise AssertionError(f"{what}: got {got!r}, wanted {wanted!r}")


def until(condition, what):
    """Waits for a condition to hold."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {PATIENCE_S} s for {what}")
        time.sleep(0.05)


def main(client):
    """Runs the jobs that were asked for, or all."""
    wanted = sys.argv[2:]
    failed = 0
    for number, function in enumerate(JOBS, 1):
        if wanted and function.__name__ not in wanted:
            continue
        title = f"{number} - {client}: {function.__name__}"
        try:
            reason = function()
            print(f"ok {title}" + (f" # SKIP {reason}" if reason else ""), flush=True)
        except Exception as error:  # A job may fail in any way.
            failed += 1
            print(f"not ok {title}\n  # {type(error).__name__}: {error}", flush=True)
            if os.environ.get("TRACE"):
                traceback.print_exc()
    sys.exit(1 if failed else 0)
