"""Clients that exchange all the time, and the book of what they saw."""

import asyncio
import collections
import contextlib
import re
import time

from wire import Connection
from world import AGENT, ORDERS, REPOSITORY, RESOURCE, Failed, check, until

ERRORS = (REPOSITORY / "docs/reference/errors.md").read_text()
DOCUMENTED = {code for row in re.findall(r"^\| (`.*?) \|", ERRORS, re.M) for code in re.findall(r"`([a-z_]+)`", row)}
EXCHANGE = {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token_type": "urn:ietf:params:oauth:token-type:access_token", "resource": ORDERS}
ROOT = {"task_type": "refund_order", "scope": "orders:read refunds:write"}
CHILD = {"scope": "orders:read"}
Received = collections.namedtuple("Received", "token decision_id phase")


class Book:
    """What all clients of a drill saw, by phase."""

    def __init__(self):
        self.phase, self.received, self.refused, self.faults = "before", [], collections.Counter(), []
        self.longest, self.broken = collections.Counter(), 0

    def note(self, answer):
        """Books one answer; the token, if it holds one."""
        if answer.status == 200:
            body = answer.json
            self.received.append(Received(body["access_token"], body["decision_id"], self.phase))
            return body["access_token"]
        body = answer.json if isinstance(answer.json, dict) else {}
        code = body.get("reason_code")
        if code not in DOCUMENTED or "error" not in body:
            self.faults.append(f"undocumented answer: {answer.status} {answer.json}")
        if answer.status in (429, 503) and not answer.headers.get("retry-after", "").isdigit():
            self.faults.append(f"{answer.status} without Retry-After: {answer.json}")
        self.refused[self.phase, answer.status, code] += 1
        return None

    def tokens(self, phase=None):
        return sum(phase in (None, one.phase) for one in self.received)

    def codes(self, phase):
        """Reason codes of the refusals in a phase, with their number."""
        return {code: count for (when, _, code), count in self.refused.items() if when == phase}

    def only(self, phase, *codes):
        """Nothing but these was refused in a phase."""
        others = {code: count for code, count in self.codes(phase).items() if code not in codes}
        check(not others, f"refused {phase} the fault: {others}")


async def exchange(world, book, subject, form, connection=None):
    """One exchange, booked; the token, or None."""
    async with contextlib.AsyncExitStack() as stack:
        connection = connection or await stack.enter_async_context(Connection(world.port))
        form = EXCHANGE | {"subject_token": subject} | form
        phase, began = book.phase, time.monotonic()
        answer = await connection.post("/oauth/token", AGENT, world.secrets[AGENT], form)
        book.longest[phase] = max(book.longest[phase], time.monotonic() - began)
        return book.note(answer)


class Load:
    """`async with Load(world) as book`: clients that go on over every fault and restart."""

    def __init__(self, world, clients=6, pause=0.005, issuer=0):
        self.world, self.clients, self.pause, self.issuer = world, clients, pause, world.issuers[issuer]
        self.book, self.over = Book(), False

    async def __aenter__(self):
        self.tasks = [asyncio.create_task(self.client()) for _ in range(self.clients)]
        return self.book

    async def __aexit__(self, kind, *_):
        self.over = True
        ended = await asyncio.gather(*self.tasks, return_exceptions=True)
        if kind is None:
            for fault in ended:
                check(fault is None, f"a client broke: {fault!r}")

    async def client(self):
        count, held = 0, None
        while not self.over:
            try:
                async with asyncio.timeout(60), Connection(self.world.port) as connection:
                    while not self.over:
                        # A root and two children of it, then a new session; again and again until it is answered.
                        if count % 3 == 0 or held is None:
                            token = held = await self.root(connection)
                        else:
                            token = await exchange(self.world, self.book, held, CHILD, connection)
                            held = held if token else None
                        count += token is not None
                        await asyncio.sleep(self.pause if token else 0.1)
            except (OSError, asyncio.IncompleteReadError):
                # The server is gone, or the connection has had its time.
                self.book.broken += 1
                await asyncio.sleep(0.05)

    async def root(self, connection):
        return await exchange(self.world, self.book, self.issuer.session(self.world.url), ROOT, connection)


async def more_tokens(book, count, seconds=20):
    """Waits for so many tokens more."""
    wanted = len(book.received) + count
    said = lambda: f"{count} more tokens; refused: {dict(book.refused)}, {book.broken} connections broke"
    return await until(seconds, said, lambda: len(book.received) >= wanted)


async def introspected(world, book, most=100):
    """Tokens of the book, the last one among them, are active to the service that they are for."""
    chosen = book.received[::-1][::len(book.received) // most + 1]
    async with Connection(world.port) as connection:
        for one in chosen:
            answer = await connection.post("/oauth/introspect", RESOURCE, world.secrets[RESOURCE], {"token": one.token})
            if answer.status != 200 or answer.json.get("active") is not True:
                raise Failed(f"a token from {one.phase} the fault is not active: {answer.status} {answer.json}")
    return len(chosen)
