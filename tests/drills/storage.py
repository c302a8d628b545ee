"""Faults of the disk and of the database."""

import asyncio
import errno
import os
import random
import resource
import signal
import sqlite3
import subprocess

from load import Load, introspected, more_tokens
from records import nothing_lost
from world import check

REFUSALS = ("not_recorded", "store_unavailable")


async def broken_then_mended(world, book, words, mend, seconds=15, least=5):
    """While a fault holds: only 503, and `/readyz` says why. Then `mend()`, and it goes on by itself."""
    reason = await world.becomes_unready(*words, seconds=seconds)
    await asyncio.sleep(3)
    check(sum(book.codes("during").values()) >= least, f"hardly anybody was refused: {book.refused}")
    book.only("during", *REFUSALS)
    mend()
    took = await world.becomes_ready()
    book.phase = "after"
    took += await more_tokens(book, 100)
    refused, longest = sum(book.codes("during").values()), book.longest["during"]
    return f"{refused} times 503 (longest answer {longest:.1f} s), /readyz: \"{reason}\"; 100 tokens within {took:.1f} s of the end"


async def end(world, book):
    """Stops the server and looks at what it left."""
    await introspected(world, book)
    jwks = (await world.probe("/oauth/jwks"))[1]
    await world.stop()
    return nothing_lost(world, book, jwks)


async def disk_full(world):
    """disk full"""
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m,mode=0700", "tmpfs", world.data], capture_output=True).returncode == 0
    world.mounted = mounted
    await world.apply()
    await world.start(**({} if mounted else {"restore_signals": False}))
    ballast = world.data / "ballast"
    async with Load(world) as book:
        await more_tokens(book, 100)
        book.phase = "during"
        if mounted:
            fill(ballast)
        else:
            # SIGXFSZ stays ignored, as Python has it: a write beyond the limit is EFBIG.
            most = (world.data / "taskgrant.db-wal").stat().st_size
            resource.prlimit(world.process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

        def mend():
            if mounted:
                ballast.unlink()
            else:
                unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
                resource.prlimit(world.process.pid, resource.RLIMIT_FSIZE, unlimited)

        told = await broken_then_mended(world, book, ["commit failed"], mend, seconds=60)
    way = "tmpfs of 6 MiB filled" if mounted else "file size limited (no right to mount)"
    return f"{way}: {told}; {await end(world, book)}"


def fill(path):
    """Takes all the room that is left."""
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as why:
                check(why.errno == errno.ENOSPC, why)


async def read_only(world):
    """file turned read-only"""
    await world.apply()
    await world.start()
    async with Load(world) as book:
        await more_tokens(book, 50)
        book.phase = "during"
        world.faults.set(write_errno=errno.EROFS)
        told = await broken_then_mended(
            world, book, ["commit failed"], lambda: world.faults.set(write_errno=0))
    ended = await end(world, book)
    # A start on such a file is refused, and loses nothing.
    database = world.data / "taskgrant.db"
    database.chmod(0o400)
    said = await world.refuses_to_start("taskgrant.db`", "Permission denied")
    database.chmod(0o600)
    await world.start()
    await introspected(world, book)
    await world.stop()
    return f"writes fail with EROFS: {told}; a start on a file of mode 0400 refused: \"{said}\"; {ended}"


async def locked(world):
    """database locked by another process"""
    await world.apply()
    await world.start()
    other = sqlite3.connect(world.data / "taskgrant.db", isolation_level=None)
    async with Load(world) as book:
        await more_tokens(book, 50)
        # Shorter than the server waits for a lock: callers wait with it.
        other.execute("BEGIN IMMEDIATE")
        await asyncio.sleep(2)
        other.execute("ROLLBACK")
        await more_tokens(book, 50)
        book.only("before")
        book.phase = "during"
        other.execute("BEGIN IMMEDIATE")
        told = await broken_then_mended(
            world, book, ["commit failed"], lambda: other.execute("ROLLBACK"), seconds=30, least=1)
    other.close()
    return f"2 s: all wait and are served; longer than 4 s: {told}; {await end(world, book)}"


async def killed(world, kills=50):
    """kill -9 in the commit, 50 times"""
    await world.apply()
    slowest = 0
    async with Load(world) as book:
        for count in range(kills):
            slowest = max(slowest, await world.start())
            await more_tokens(book, 10)
            if count % 2 == 0:
                # Between two of the writes that make up a commit.
                world.faults.set(kill_in=random.randint(1, 60))
                await asyncio.to_thread(world.process.wait, 20)
                check(world.process.returncode == -signal.SIGKILL, f"it ended with {world.process.returncode}")
            else:
                await asyncio.sleep(random.random() / 5)
                world.kill()
            world.faults.set(kill_in=0)
        book.phase = "after"
        await world.start()
        await more_tokens(book, 50)
        book.only("before")
    return f"{kills} kills, half of them between two writes of one commit, slowest start {slowest:.1f} s: " \
           f"{await end(world, book)}"
