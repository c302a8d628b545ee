"""Load for as long as is said, with tokens that end soon: memory stays flat, and what has ended goes as fast as it comes."""

import asyncio
import collections
import contextlib
import sqlite3
import time

from abuse import memory, quantiles
from load import CHILD, ROOT, Book, exchange, introspected
from records import nothing_lost
from wire import Connection
from world import check

# Of 32,768 tasks the server keeps the facts in memory, some 1.2 KiB each, and fills that as tasks come: with 24 children each, a fast
# machine came to 10 MiB in a soak. With many there are few tasks, and what grows then is something else.
CLIENTS, CHILDREN = 12, 96
# Seconds: a task, how long it stays after its end, and what pruning may take to come to it.
LIFE, RETENTION, SLACK = 20, 60, 10
# The log's own tables grow by design; all others are bounded.
LOG = ("decisions", "decision_records", "decision_inputs")
# By how much of the first half the second may have more: of resident memory, and of rows.
MEMORY, ROWS = 1.10, 1.35
# The newest tokens are looked at in the end.
NEWEST = 200

Sample = collections.namedtuple("Sample", "at rss rows decisions size")


class Soak:
    """Clients that exchange without a pause, and what is seen of the server meanwhile."""

    def __init__(self, world, seconds):
        self.world, self.book, self.took, self.samples = world, Book(), ([], []), []
        self.began, self.issued = time.monotonic(), 0
        # From here on rows come and go.
        self.warm = LIFE + RETENTION + SLACK
        check(seconds >= 2 * self.warm, f"a soak takes at least {2 * self.warm} s: less shows nothing")
        self.half, self.seconds = self.warm + (seconds - self.warm) / 2, seconds

    def age(self):
        return time.monotonic() - self.began

    async def client(self):
        """A root and some children of it, again and again; a login serves for a second."""
        async with Connection(self.world.port) as connection:
            while self.age() < self.seconds:
                session = self.world.issuers[0].session(self.world.url)
                until = self.age() + 1
                while self.age() < min(until, self.seconds):
                    born, root = self.age(), await self.call(connection, session, ROOT)
                    for _ in range(CHILDREN):
                        # On a slow machine there are fewer: an honest client exchanges nothing that is about to expire.
                        if self.age() - born > LIFE / 2:
                            break
                        await self.call(connection, root, CHILD)

    async def call(self, connection, subject, form):
        began = time.monotonic()
        token = await exchange(self.world, self.book, subject, form, connection)
        check(token, f"an honest request was refused: {dict(self.book.refused)}")
        if self.age() > self.warm:
            self.took[self.age() > self.half].append(time.monotonic() - began)
        self.issued += 1
        return token

    async def watch(self):
        """Looks at the server every few seconds, and keeps no more tokens than are looked at in the end."""
        while self.age() < self.seconds:
            await asyncio.sleep(2)
            self.samples.append(await asyncio.to_thread(self.sample))
            del self.book.received[:-NEWEST]

    def sample(self):
        file = self.world.data / "taskgrant.db"
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            names = [name for name, in database.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
            bounded = [name for name in names if name not in LOG]
            rows = {name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in bounded}
            [[decisions]] = database.execute("SELECT size FROM log_head")
            [[pages]], [[free]], [[page]] = (database.execute(f"PRAGMA {name}").fetchall()
                                             for name in ("page_count", "freelist_count", "page_size"))
        return Sample(self.age(), memory(self.world.process)[0], rows, decisions, (pages - free) * page)

    # --- what must hold ---

    def halves(self):
        warm = [sample for sample in self.samples if sample.at > self.warm]
        first = [sample for sample in warm if sample.at <= self.half]
        second = [sample for sample in warm if sample.at > self.half]
        check(len(first) > 5 and len(second) > 5, f"only {len(first)} and {len(second)} samples")
        return first, second

    def memory_is_flat(self, first, second):
        before, after = (sum(sample.rss for sample in half) / len(half) for half in (first, second))
        check(after <= before * MEMORY, f"memory grows: {before:.1f} MiB, then {after:.1f}")
        return f"memory {before:.1f} MiB in the first half, {after:.1f} in the second"

    def tables_are_bounded(self, first, second):
        for name in first[0].rows:
            before, after = (max(sample.rows[name] for sample in half) for half in (first, second))
            check(after <= before * ROWS + 100, f"`{name}` grows: {before} rows, then {after}")
        tokens, tasks = (max(sample.rows[name] for sample in second) for name in ("tokens", "tasks"))
        # As much as comes in the time that a task and its retention take, by the pace of the busiest stretch, and what waits.
        check(tokens < self.issued * 0.9, f"of {self.issued} tokens {tokens} are left: nothing went")
        return f"at most {tokens} rows of tokens and {tasks} of tasks of {self.issued} tokens issued"

    def growth_is_the_logs(self, first, second):
        """Bytes in use that came in the second half, and how many of these the log's columns are."""
        start, end = first[-1], second[-1]
        with contextlib.closing(self.world.records()) as database:
            [[log]] = database.execute(
                "SELECT sum(length(d.leaf) + length(d.id) + length(r.salt) + length(r.record) + coalesce(length(i.input), 0)) "
                "FROM decisions d JOIN decision_records r ON r.idx = d.idx LEFT JOIN decision_inputs i ON i.idx = d.idx "
                "WHERE d.idx >= ? AND d.idx < ?", [start.decisions, end.decisions])
        grown, count = end.size - start.size, end.decisions - start.decisions
        check(grown <= 2 * log, f"the file grew by {grown} bytes, of which the log explains {log}")
        return f"the file grows by {grown / count:.0f} bytes a decision, {log / count:.0f} of them the log's columns"


async def soak(world):
    """full load with tokens that end soon"""
    # Neither is it filling this cache that is looked for.
    world.top = f"retention.ended_tasks = {RETENTION}\ncache.verified_tokens = 100\n"
    world.lifetime = {"token": {"default": LIFE, "max": LIFE}, "task": LIFE}
    await world.apply()
    await world.start()
    soak = Soak(world, world.soak)
    await asyncio.gather(soak.watch(), *(soak.client() for _ in range(CLIENTS)))
    await introspected(world, soak.book)
    jwks = (await world.probe("/oauth/jwks"))[1]
    await world.stop()
    first, second = soak.halves()
    told = [soak.memory_is_flat(first, second), soak.tables_are_bounded(first, second), soak.growth_is_the_logs(first, second)]
    early, late = (quantiles(sorted(took)) for took in soak.took)
    del soak.book.received[:-NEWEST]
    return f"{world.soak} s, {soak.issued / world.soak:.0f} exchanges a second, none failed: {'; '.join(told)}; {early} in the first " \
           f"half, {late} in the second; of the newest {nothing_lost(world, soak.book, jwks)}"
