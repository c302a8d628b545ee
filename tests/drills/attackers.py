#!/usr/bin/env python3
"""A crowd that means ill: tests/drills/attackers.py PORT SECONDS KIND…, with `client:secret` of an agent on standard input.

A process of its own, so that the honest client that is measured meanwhile waits for the server only. Prints what it saw as
one line of JSON.
"""

import asyncio
import base64
import collections
import contextlib
import json
import random
import resource
import sys
import time

# Seconds in which they all come for the first time, and until one that was thrown out comes again.
RAMP, PAUSE = 12, 5
CROWD = {"silent": 1200, "slow head": 1000, "slow body": 1100, "half open": 500, "never reads": 1000, "malformed": 200}
# What is no HTTP/1.1 is answered without a body, as openapi.yaml says.
NO_HTTP = (400, 414, 431)
FORM = "content-type: application/x-www-form-urlencoded"


def post(body, *headers):
    head = ["POST /oauth/token HTTP/1.1", "host: x", FORM, *headers]
    if not any(h.startswith(("transfer-encoding", "content-length")) for h in headers):
        head.append(f"content-length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


def jwt(payload):
    part = lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    return ".".join([part(b'{"alg":"ES256"}'), part(payload), "c2ln"]).encode()


def malformed(basic):
    """Requests that hold what must not be, with valid client authentication where it takes that to be looked at."""
    deep, exchange = b"[" * 10_000 + b"]" * 10_000, b"grant_type=urn:ietf:params:oauth:grant-type:token-exchange" \
        b"&subject_token_type=urn:ietf:params:oauth:token-type:access_token&subject_token="
    subject = exchange + b"a.b.c"
    bodies = [
        subject + b"&authorization_details=" + deep,
        subject + b"&claimed=" + b'{"a":' * 9_000 + b"1" + b"}" * 9_000,
        exchange + jwt(deep), exchange + jwt(b'{"iss":"a","iss":"b"}'), exchange + b"A" * 60_000,
        subject + b'&authorization_details=[{"type":"tool_call","type":"other"}]',
        subject + b'&claimed={"a":1,"a":2}',
        b"scope=%ff%fe", b"scope=\xff\xfe", b"scope=%00", b"scope=\0", b"scope=%", b"scope=a&scope=b", b"a=b&" * 5_000,
    ]
    for body in bodies:
        yield post(body, basic)
    mebibyte = b"a" * (1 << 20)
    yield post(mebibyte, basic)
    yield post(b"".join(b"4000\r\n" + mebibyte[:0x4000] + b"\r\n" for _ in range(64)) + b"0\r\n\r\n", "transfer-encoding: chunked")
    yield post(b"a", "content-length: 1", "content-length: 2")
    yield post(b"", "content-length: 4", "transfer-encoding: chunked")
    yield b"GET /oauth/jwks HTTP/1.1\r\nhost: x\r\nx-pad: " + b"a" * 20_000 + b"\r\n\r\n"
    yield b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n"
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64
    yield b"\0\0\0\r\n\r\n"


class Crowd:
    """All attackers, and what they saw."""

    def __init__(self, port, seconds, kinds, credentials):
        self.port, self.end, self.crowd = port, time.monotonic() + seconds, {kind: CROWD[kind] for kind in kinds}
        self.bad = list(malformed("authorization: Basic " + base64.b64encode(credentials.encode()).decode()))
        self.opened = self.open = self.most = 0
        self.statuses, self.faults = collections.Counter(), []

    def over(self):
        return time.monotonic() >= self.end

    async def attack(self, how):
        """One attacker: whenever it is thrown out it comes again."""
        await asyncio.sleep(random.random() * RAMP)
        while not self.over():
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 18)
                self.opened, self.open = self.opened + 1, self.open + 1
                self.most = max(self.most, self.open)
                try:
                    await how(reader, writer)
                finally:
                    self.open -= 1
                    writer.transport.abort()
            await asyncio.sleep(PAUSE)

    async def answer(self, kind, reader):
        """Reads one answer, if there is one, and holds it against what is documented."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status, length = int(head.split()[1]), 0
        for line in head.lower().split("\r\n"):
            if line.startswith("content-length:"):
                length = int(line.split(":")[1])
        body = await reader.readexactly(length)
        self.statuses[status] += 1
        if status in NO_HTTP and not body:
            return
        try:
            told = json.loads(body)
            good = status >= 400 and isinstance(told["error"], str) and isinstance(told["reason_code"], str)
        except (ValueError, KeyError, TypeError):
            good = False
        if not good and len(self.faults) < 5:
            self.faults.append(f"{kind}: {status} {body[:200]!r}")

    async def until_closed(self, kind, reader):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.end - time.monotonic()):
                while True:
                    await self.answer(kind, reader)

    async def drip(self, kind, reader, writer, first, piece):
        writer.write(first)
        seen = asyncio.create_task(self.until_closed(kind, reader))
        while not self.over() and not seen.done():
            await writer.drain()
            await asyncio.wait([seen], timeout=2)
            writer.write(piece)
        seen.cancel()
        await asyncio.gather(seen, return_exceptions=True)

    async def silent(self, reader, writer):
        await self.until_closed("silent", reader)

    async def slow_head(self, reader, writer):
        await self.drip("slow head", reader, writer, b"POST /oauth/token HTTP/1.1\r\nx-slow: ", b"a")

    async def slow_body(self, reader, writer):
        await self.drip("slow body", reader, writer, post(b"a=" + b"b" * 60_000, "content-length: 65000"), b"a")

    async def half_open(self, reader, writer):
        writer.write(random.choice([b"POST /oau", post(b"scope=", "content-length: 100")]))
        writer.write_eof()
        await self.until_closed("half open", reader)

    async def never_reads(self, reader, writer):
        # Nothing is taken from the socket: what the server sends stays with it.
        writer.transport.pause_reading()
        while not self.over() and not writer.transport.is_closing():
            writer.write(b"GET /.well-known/oauth-authorization-server HTTP/1.1\r\nhost: x\r\n\r\n" * 20)
            async with asyncio.timeout(30):
                await writer.drain()
            await asyncio.sleep(2)

    async def malformed(self, reader, writer):
        writer.write(random.choice(self.bad))
        await self.answer("malformed", reader)

    async def run(self):
        hows = {kind: getattr(self, kind.replace(" ", "_")) for kind in self.crowd}
        tasks = [asyncio.create_task(self.attack(hows[kind])) for kind, count in self.crowd.items() for _ in range(count)]
        done, left = await asyncio.wait(tasks, timeout=self.end - time.monotonic() + 1)
        for task in left:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            if task.exception():
                self.faults.append(repr(task.exception()))
        return {"crowd": sum(self.crowd.values()), "opened": self.opened, "most": self.most, "statuses": self.statuses,
                "faults": self.faults}


if __name__ == "__main__":
    wanted = 2 * sum(CROWD.values())
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    port, seconds, *kinds = sys.argv[1:]
    print(json.dumps(asyncio.run(Crowd(int(port), float(seconds), kinds, sys.stdin.read().strip()).run())))
