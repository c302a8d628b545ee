"""Callers that mean ill, thousands at a time, and an honest one who must not notice."""

import asyncio
import collections
import json
import resource
import sys
import time

from attackers import CROWD
from load import CHILD, ROOT, Book, exchange
from storage import end
from world import AGENT, HERE, check

SECONDS, PACE, FILES = 40, 0.1, 4096
# Most resident memory at the peak, in MiB.
MEMORY = 150


def memory(process):
    """Resident memory of a process and its peak, in MiB."""
    with open(f"/proc/{process.pid}/status") as file:
        found = dict(line.split(":", 1) for line in file)
    return tuple(int(found[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))


async def crowd(world, *kinds):
    """Attackers of some kinds, until they have had their time; what they saw."""
    attackers = await asyncio.create_subprocess_exec(
        sys.executable, HERE / "attackers.py", str(world.port), str(SECONDS), *kinds,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    out, err = await attackers.communicate(f"{AGENT}:{world.secrets[AGENT]}".encode())
    check(attackers.returncode == 0, f"the attackers broke: {err.decode()[-2000:]}")
    return json.loads(out)


async def paced(world, book, going):
    """An honest client, at an even pace whatever the answers take; how long each took, in seconds."""
    took, calls, began = [], [], time.monotonic()
    held = await exchange(world, book, world.issuers[0].session(world.url), ROOT)

    async def call():
        at = time.monotonic()
        check(await exchange(world, book, held, CHILD), f"refused: {dict(book.refused)}")
        took.append(time.monotonic() - at)

    while going():
        calls.append(asyncio.create_task(call()))
        await asyncio.sleep(max(0, began + len(calls) * PACE - time.monotonic()))
    ended = await asyncio.gather(*calls, return_exceptions=True)
    failed = [repr(one) for one in ended if isinstance(one, BaseException)]
    return sorted(took), failed


def quantiles(took):
    return f"p50 {took[len(took) // 2] * 1000:.0f} ms, p99 {took[len(took) * 99 // 100] * 1000:.0f} ms"


async def abuse(world):
    """5,000 ill-meaning connections"""
    # The server holds `limits.connections` of them, which takes more files than some systems give by themselves.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(FILES, hard)), hard))
    await world.apply()
    await world.start()
    book = Book()
    until = time.monotonic() + 5
    alone, failed = await paced(world, book, lambda: time.monotonic() < until)
    check(not failed, f"before the attack: {failed[:1]}")
    before, _ = memory(world.process)

    book.phase = "during"
    # In two processes, so that those who hold connections do not slow down those who send.
    patient, hasty = [kind for kind in CROWD if kind != "malformed"], ["malformed"]
    attack = asyncio.gather(crowd(world, *patient), crowd(world, *hasty))
    during, failed = await paced(world, book, lambda: not attack.done())
    parts = await attack
    seen = {name: sum(part[name] for part in parts) for name in ("crowd", "opened", "most")}
    statuses = sum((collections.Counter(part["statuses"]) for part in parts), collections.Counter())
    faults = sum((part["faults"] for part in parts), [])
    after, peak = memory(world.process)
    check(not failed, f"the honest client failed {len(failed)} of {len(during) + len(failed)} times: {failed[:3]}")
    check(not book.codes("during"), f"the honest client was refused: {book.codes('during')}")
    check(not faults, f"answers that are no OAuth error: {faults}")
    check(statuses.total() > 200, f"hardly anything malformed was answered: {statuses}")
    check(seen["opened"] >= seen["crowd"], f"only {seen['opened']} connections were made")
    check(peak < MEMORY, f"{peak:.0f} MiB at the peak")
    check(await world.is_ready(), "/readyz is red")
    told = ", ".join(f"{count} times {status}" for status, count in sorted(statuses.items()))
    return f"{seen['crowd']} attackers for {SECONDS} s, {seen['most']} connected at once, {seen['opened']} connections in all: " \
           f"{told}, every other one closed; memory {before:.0f} MiB before, {after:.0f} after, {peak:.0f} at the peak; " \
           f"an honest client at {1 / PACE:.0f}/s: {quantiles(alone)} alone, {quantiles(during)} during, {len(during)} served, " \
           f"none refused; {await end(world, book)}"
