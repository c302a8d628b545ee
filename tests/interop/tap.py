"""Plain TAP lines: `ok - NAME` or `not ok - NAME`, and an exit code that says whether all held."""

import sys
import traceback

failed = 0


def check(name, test):
    """Runs `test`; a failed assertion or any other exception is a `not ok` with its trace. Returns its value."""
    global failed
    try:
        value = test()
    except Exception:
        failed += 1
        print(f"not ok - {name}", flush=True)
        print("".join(f"# {line}\n" for line in traceback.format_exc().splitlines()), end="", flush=True)
        return None
    print(f"ok - {name}", flush=True)
    return value


def refuses(test):
    """True when `test` raises; the verifiers refuse by exception."""
    try:
        test()
    except Exception:
        return True
    return False


def finish():
    sys.exit(1 if failed else 0)
