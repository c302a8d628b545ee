"""Faults of PostgreSQL and of the replicas beside it."""

import asyncio
import contextlib
import json
import os
import subprocess
import time

from cluster import Address, Server, as_sqlite
from load import CHILD, ROOT, Book, Load, exchange, introspected, more_tokens
from records import nothing_lost
from storage import REFUSALS, broken_then_mended
from wire import Connection
from world import AGENT, AS_USER, END, RESOURCE, START, check, free_port, until

ACCOUNT = DATABASE = "taskgrant"


class Place:
    """PostgreSQL behind an address, with an ordinary account's database that is migrated."""

    def __init__(self, world):
        self.world, self.servers = world, []

    async def __aenter__(self):
        self.server = await asyncio.to_thread(self.make)
        self.address = Address(self.server)
        await self.address.up()
        self.world.top = f"database = '{self.server.url(ACCOUNT, DATABASE, self.address.port)}'\n"
        self.world.records = lambda: as_sqlite(self.server, DATABASE)
        self.world.configure()
        await self.run("migrate")
        await self.world.start()
        await self.apply()
        return self

    def make(self):
        server = Server()
        self.servers.append(server)
        server.make().start()
        server.sql(f"CREATE ROLE {ACCOUNT} LOGIN PASSWORD '{server.password}'")
        server.sql(f"CREATE DATABASE {DATABASE} OWNER {ACCOUNT}")
        return server

    async def __aexit__(self, *_):
        if self.world.process and self.world.process.poll() is None:
            self.world.process.kill()
            self.world.process.wait()
        await self.address.down()
        for server in self.servers:
            await asyncio.to_thread(server.remove)

    async def run(self, *arguments):
        """A command of the binary, while the address goes on."""
        done = await asyncio.to_thread(
            subprocess.run, [self.world.binary, *arguments], cwd=self.world.root, env={}, capture_output=True, text=True)
        check(done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}")

    async def apply(self, **changed):
        """Declares the world's objects, with members of the agent's replaced."""
        objects = list(self.world.objects())
        for one in objects:
            if one["kind"] == "Agent":
                one["spec"] |= changed
        (self.world.root / "objects.yaml").write_text("\n---\n".join(map(json.dumps, objects)))
        await self.run("apply", "-f", "objects.yaml", "--allow-widening")

    async def end(self, book):
        """Stops the server and looks at what is in the database behind the address."""
        await introspected(self.world, book)
        jwks = (await self.world.probe("/oauth/jwks"))[1]
        await self.world.stop()
        return await asyncio.to_thread(nothing_lost, self.world, book, jwks)


class Replica:
    """Another server of the world, on its database and with its keys."""

    def __init__(self, world):
        self.world, self.port, self.process = world, free_port(), None
        self.url, self.secrets, self.issuers = world.url, world.secrets, world.issuers

    async def __aenter__(self):
        await self.start()
        return self

    async def __aexit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            await until(END, "the orderly end", lambda: self.process.poll() is not None)

    async def start(self):
        environment = {"PATH": os.environ["PATH"], "TASKGRANT_LISTEN": f"127.0.0.1:{self.port}",
                       "TASKGRANT_DATA": "data-2", "TASKGRANT_KEYS__FOLDER": "data/keys"}
        with open(self.world.root / "replica.log", "ab") as log:
            self.process = subprocess.Popen(
                AS_USER + [self.world.binary, "serve"], cwd=self.world.root, env=environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log)
        said = lambda: f"a start of the replica: {(self.world.root / 'replica.log').read_text()[-2000:]}"
        await until(START, said, self.is_ready)

    async def is_ready(self):
        check(self.process.poll() is None, (self.world.root / "replica.log").read_text()[-2000:])
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            async with Connection(self.port) as connection:
                return (await connection.request("GET", "/readyz")).status == 200
        return False


async def stopped(world):
    """PostgreSQL stopped and started"""
    async with Place(world) as place:
        async with Load(world) as book:
            await more_tokens(book, 50)
            book.phase = "during"
            await asyncio.to_thread(place.server.stop)
            told = await broken_then_mended(world, book, ["commit failed"], place.server.start, seconds=30)
        return f"{told}; {await place.end(book)}"


async def cut(world, times=20):
    """connection cut in the middle of a commit, 20 times"""
    async with Place(world) as place:
        async with Load(world) as book:
            await more_tokens(book, 50)
            book.phase = "during"
            slowest = 0
            for count in range(times):
                place.address.cut_next_commit(after=count % 2 == 1)
                await until(20, "a commit to be cut", lambda: not place.address.cuts)
                slowest = max(slowest, await more_tokens(book, 5))
            book.only("during", *REFUSALS)
            refused = sum(book.codes("during").values())
        return f"{times} cuts, half of them after the server had heard of the commit: {refused} times 503, " \
               f"5 tokens within {slowest:.1f} s each time; {await place.end(book)}"


TERMINATE = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity " \
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"


async def terminated(world, times=5):
    """all sessions ended by the database, 5 times"""
    async with Place(world) as place:
        async with Load(world) as book:
            await more_tokens(book, 50)
            book.phase = "during"
            ended, slowest = 0, 0
            for _ in range(times):
                ended += int(await asyncio.to_thread(place.server.sql, TERMINATE))
                slowest = max(slowest, await more_tokens(book, 50))
            book.only("during", *REFUSALS)
            refused = sum(book.codes("during").values())
            await world.becomes_ready()
        return f"{ended} sessions ended: {refused} times 503, 50 tokens within {slowest:.1f} s each time; {await place.end(book)}"


async def failover(world):
    """a streaming standby promoted, the address moved to it"""
    async with Place(world) as place:
        standby = Server()
        place.servers.append(standby)
        await asyncio.to_thread(standby.follow, place.server)
        await until(30, "the standby to be synchronous", lambda: "sync" in place.server.sql(
            "SELECT sync_state FROM pg_stat_replication").split())
        async with Load(world) as book:
            await more_tokens(book, 100)
            book.phase = "during"
            # The machine of the primary is gone: what was acknowledged is on the standby.
            await asyncio.to_thread(place.server.stop, "immediate")
            place.address.cut()
            reason = await world.becomes_unready("commit failed")
            began = time.monotonic()
            await asyncio.to_thread(standby.promote)
            place.server, place.address.leads_to = standby, standby.port
            took = await world.becomes_ready()
            book.only("during", *REFUSALS)
            refused = sum(book.codes("during").values())
            book.phase = "after"
            await more_tokens(book, 100)
            took = time.monotonic() - began
        return f"/readyz \"{reason}\", {refused} times 503; 100 tokens within {took:.1f} s of the promotion's beginning; " \
               f"{await place.end(book)}"


REFUSE = """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
  $$BEGIN IF right(NEW.jti, 1) IN ('0', '1', '2', '3') THEN RAISE 'refused' USING ERRCODE = 'check_violation'; END IF;
  RETURN NEW; END$$;
CREATE TRIGGER refuse BEFORE INSERT ON tokens FOR EACH ROW EXECUTE FUNCTION refuse();"""


async def row_refused(world):
    """rows that the database refuses, in the middle of batches"""
    async with Place(world) as place:
        async with Load(world, clients=12) as book:
            await more_tokens(book, 50)
            book.phase = "during"
            await asyncio.to_thread(place.server.sql, REFUSE, DATABASE)
            await more_tokens(book, 150, seconds=150)
            check(await world.is_ready(), "/readyz is red for the fault of one row")
            book.only("during", "not_recorded", "no_answer_in_time")
            refused, served = sum(book.codes("during").values()), book.tokens("during")
            check(refused >= 5, f"hardly a row was refused: {book.refused}")
            await asyncio.to_thread(place.server.sql, "DROP TRIGGER refuse ON tokens", DATABASE)
            book.phase = "after"
            await more_tokens(book, 100)
            await asyncio.sleep(1)
        return f"one row in eight refused: {refused} times 503 for these alone, {served} tokens of the others, /readyz stayed 200; " \
               f"{await place.end(book)}"


async def replica_killed(world, times=5):
    """kill -9 of one of two replicas, 5 times"""
    async with Place(world) as place, Replica(world) as replica:
        async with Load(world) as book, Load(replica) as others:
            await more_tokens(book, 50)
            await more_tokens(others, 50)
            slowest = 0
            for _ in range(times):
                replica.process.kill()
                replica.process.wait()
                slowest = max(slowest, await more_tokens(book, 50))
                await replica.start()
                await more_tokens(others, 20)
            book.only("before", *REFUSALS)
            others.only("before", *REFUSALS)
            refused = sum(book.codes("before").values())
        book.received += others.received
        book.faults += others.faults
        replica.process.terminate()
        await until(END, "the orderly end", lambda: replica.process.poll() is not None)
        return f"the other goes on: {refused} times 503 in all, 50 tokens within {slowest:.1f} s of each kill; {await place.end(book)}"


def percentiles(seconds):
    ordered = sorted(seconds)
    at = lambda share: ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000
    return f"p50 {at(0.5):.0f} ms, p99 {at(0.99):.0f} ms, longest {ordered[-1] * 1000:.0f} ms"


async def takes(condition, seconds=20):
    """How long until a condition holds, looked at as often as it can be."""
    began = time.monotonic()
    while not await condition():
        check(time.monotonic() - began < seconds, f"not within {seconds} s")
        await asyncio.sleep(0.002)
    return time.monotonic() - began


async def revocations(world, here, there, rounds):
    """Seconds from the answer to a revocation until the token is inactive, on the same replica and on the other."""
    same, other, book = [], [], Book()
    for _ in range(rounds):
        root = await exchange(world, book, world.issuers[0].session(world.url), ROOT)
        await exchange(world, book, root, CHILD)
        dead = lambda connection: inactive(world, connection, root)
        answer = await here.post("/oauth/revoke", AGENT, world.secrets[AGENT], {"token": root})
        check(answer.status == 200, f"revoke: {answer}")
        one, two = await asyncio.gather(takes(lambda: dead(here)), takes(lambda: dead(there)))
        same.append(one)
        other.append(two)
    return same, other


async def inactive(world, connection, token):
    answer = await connection.post("/oauth/introspect", RESOURCE, world.secrets[RESOURCE], {"token": token})
    return answer.json == {"active": False}


async def configurations(place, replica, rounds):
    """Seconds from the end of `apply` at one replica until the other refuses, or serves, an agent."""
    seen = []
    async with Connection(replica.port) as there:
        async def status(wanted):
            answer = await there.post("/oauth/introspect", AGENT, place.world.secrets[AGENT], {"token": "none"})
            return answer.status == wanted
        for count in range(rounds):
            off = count % 2 == 0
            await place.apply(disabled=off)
            seen.append(await takes(lambda: status(401 if off else 200)))
    return seen


DEAF = "REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC"


async def visible(world):
    """how soon another replica sees a revocation and a configuration, also without notifications"""
    async with Place(world) as place:
        told = []
        for notified in (True, False):
            if not notified:
                await world.stop()
                await asyncio.to_thread(place.server.sql, DEAF, DATABASE)
                await world.start()
            async with Replica(world) as replica:
                async with Load(world, clients=1) as book:
                    await more_tokens(book, 20)
                    async with Connection(world.port) as here, Connection(replica.port) as there:
                        same, other = await revocations(world, here, there, 100)
                seen = await configurations(place, replica, 10)
            # What is printed is measured; what is checked must hold on a busy machine too.
            check(max(other) <= 10 and max(seen) <= 10, f"revocation {percentiles(other)}, configuration {percentiles(seen)}")
            way = "notified" if notified else "by polling alone"
            told.append(f"{way}: revocation here {percentiles(same)}, there {percentiles(other)}; configuration {percentiles(seen)}")
        return f"{'; '.join(told)}; {await place.end(book)}"
