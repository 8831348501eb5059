"""What the scripts beside share: checks that all run, and are told at the end."""

import sys
import traceback

from docker.errors import APIError

failed = []


def check(work):
    """Runs one check and remembers whether it failed."""
    try:
        work()
        print("ok", work.__name__)
    except Exception as error:  # noqa: BLE001 - all are reported
        failed.append(work.__name__)
        print("FAILED", work.__name__, type(error).__name__, error)
        traceback.print_exc(file=sys.stdout)


def equal(found, wanted):
    if found != wanted:
        raise AssertionError(f"{found!r} instead of {wanted!r}")


def refuses(status, text, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except APIError as error:
        equal(error.status_code, status)
        if text not in error.explanation:
            raise AssertionError(f"{error.explanation!r} lacks {text!r}") from error
        return
    raise AssertionError("was not refused")


def finish():
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
