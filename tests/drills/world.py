"""What a drill works with: a server on a data folder of its own, the issuers that it trusts, and faults to inject."""

import asyncio
import contextlib
import hashlib
import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time

import rs256
from wire import Connection

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
AGENT, RESOURCE, ORDERS = "support-agent", "orders-api", "https://orders.acme.example"
# An ordinary user's powers, also where root runs the drills: file modes hold for the server.
AS_USER = [["setpriv", "--bounding-set=-dac_override,-dac_read_search"], []][os.geteuid() != 0]
START, END = 30, 30


class Failed(Exception):
    """What the drill found wrong."""


def check(holds, what):
    if not holds:
        raise Failed(what)


async def until(seconds, what, condition):
    """Waits until `condition()`, or the awaitable that it gives, is true; returns how long that took."""
    began = time.monotonic()
    while True:
        result = condition()
        if await result if asyncio.iscoroutine(result) else result:
            return time.monotonic() - began
        check(time.monotonic() - began < seconds, f"not within {seconds} s: {what() if callable(what) else what}")
        await asyncio.sleep(0.05)


class Faults:
    """`struct faults` of faults.c in a file that the server has mapped."""

    FIELDS = {"clock_set_by": ("q", 0), "write_errno": ("i", 8), "sync_takes": ("i", 12), "kill_in": ("i", 16)}

    def __init__(self, path):
        self.path = path
        path.write_bytes(bytes(24))

    def set(self, **faults):
        with open(self.path, "r+b") as file:
            for name, value in faults.items():
                kind, at = self.FIELDS[name]
                file.seek(at)
                file.write(struct.pack("=" + kind, value))


class Issuer:
    """A trusted issuer: a key set over HTTP, and session tokens."""

    def __init__(self, name):
        self.name, self.keys, self.server = name, [rs256.Key()], None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.published = [self.keys[0].jwk()]

    async def up(self):
        self.server = await asyncio.start_server(self.answer, "127.0.0.1", self.port)

    async def down(self):
        self.server.close()
        await self.server.wait_closed()
        self.server = None

    async def answer(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            body = json.dumps({"keys": self.published}).encode()
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: max-age=60\r\n" \
                   f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()

    def new_key(self):
        """From now on it signs with a new key, and publishes no other."""
        self.keys.append(rs256.Key())
        self.published = [self.keys[-1].jwk()]

    def session(self, audience, key=-1):
        now = int(time.time())
        claims = {"iss": self.url, "sub": "alice", "aud": audience, "client_id": "console", "azp": "console",
                  "sid": secrets.token_hex(8), "auth_time": now - 60, "iat": now, "exp": now + 14400,
                  "groups": ["support"]}
        return self.keys[key].sign("at+jwt", claims)


# Ports that were given out: whoever got one may not listen there yet.
GIVEN = set()


def free_port():
    """A port below those that systems give out by themselves: nobody takes it while no server runs."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        if port in GIVEN:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            GIVEN.add(port)
            return port


class World:
    """One drill's server and all around it; `async with` cleans it up."""

    def __init__(self, binary, shim):
        self.binary, self.shim, self.process, self.mounted = binary, shim, None, False
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="taskgrant-drill."))
        self.data, self.log_file = self.root / "data", self.root / "server.log"
        self.faults = Faults(self.root / "faults")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.secrets = {name: secrets.token_urlsafe(32) for name in (AGENT, RESOURCE)}
        self.issuers = [Issuer("first"), Issuer("second")]
        self.limits, self.top = {}, ""
        self.lifetime = {"token": {"default": 7200, "max": 7200}, "task": 10800}
        # Seconds that a soak takes.
        self.soak = 600

    async def __aenter__(self):
        self.data.mkdir(mode=0o700)
        shutil.copytree(REPOSITORY / "policies/base", self.root / "policy")
        for issuer in self.issuers:
            await issuer.up()
        return self

    async def __aexit__(self, *_):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for issuer in self.issuers:
            if issuer.server:
                await issuer.down()
        if self.mounted:
            subprocess.run(["umount", self.data], check=True)
        shutil.rmtree(self.root)

    # --- the server ---

    def configure(self):
        limits = "".join(f"{key} = {value}\n" for key, value in self.limits.items())
        (self.root / "taskgrant.toml").write_text(
            f"public_url = '{self.url}'\nlisten = '127.0.0.1:{self.port}'\ndata = 'data'\nenvironment = 'drill'\n"
            f"{self.top}"
            "[keys]\nalgorithm = 'RS256'\n[policy]\nbundles = ['policy']\n[log]\nlevel = 'warn'\n"
            f"[outbound]\nallow_http_loopback = true\n[limits]\n{limits}")

    def spawn(self, **more):
        """Starts `serve` without waiting for it."""
        environment = {"LD_PRELOAD": str(self.shim), "DRILL_FAULTS": str(self.faults.path), "PATH": os.environ["PATH"]}
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                AS_USER + [self.binary, "serve"], cwd=self.root, env=environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, **more)

    async def start(self, ready=True, **more):
        """Starts `serve`: at the first attempt, also after a crash. Returns how long it took."""
        self.configure()
        self.spawn(**more)
        said = lambda: f"a start; status {self.process.poll()}, log: {self.log()[-2000:]}"
        answers = self.is_ready if ready else self.is_live
        async def started():
            check(self.process.poll() is None, said())
            return await answers()
        return await until(START, said, started)

    async def refuses_to_start(self, *words):
        """`serve` ends with 1 and says `words`; returns the line that says so."""
        self.configure()
        before = len(self.log())
        self.spawn()
        await until(START, "the start to be refused", lambda: self.process.poll() is not None)
        said = self.log()[before:]
        check(self.process.returncode == 1, f"status {self.process.returncode}: {said}")
        check(all(word in said for word in words), f"{words} is not in what it said: {said}")
        return said.strip().splitlines()[-1].partition(": ")[2]

    def kill(self):
        check(self.process.poll() is None, f"the server ended by itself: {self.log()[-2000:]}")
        self.process.kill()
        self.process.wait()

    async def stop(self):
        """SIGTERM, and the orderly end."""
        check(self.process.poll() is None, f"the server ended by itself: {self.log()[-2000:]}")
        self.process.send_signal(signal.SIGTERM)
        await until(END, "the orderly end", lambda: self.process.poll() is not None)
        check(self.process.returncode == 0, f"status {self.process.returncode} after SIGTERM: {self.log()[-2000:]}")

    def records(self):
        """The database of a stopped server."""
        database = sqlite3.connect(self.data / "taskgrant.db")
        check(database.execute("PRAGMA integrity_check").fetchall() == [("ok",)], "SQLite finds the file damaged")
        return database

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    async def logged(self, text):
        await until(10, f"`{text}` in the log", lambda: text in self.log())

    # --- its probes ---

    async def probe(self, path):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            async with asyncio.timeout(12), Connection(self.port) as connection:
                answer = await connection.request("GET", path)
                return answer.status, answer.json
        return None, {}

    async def is_ready(self):
        return (await self.probe("/readyz"))[0] == 200

    async def is_live(self):
        return (await self.probe("/healthz"))[0] == 200

    async def becomes_unready(self, *words, seconds=15):
        """`/readyz` turns 503 with a reason that says `words`; returns the reason."""
        seen = (None, {})
        async def unready():
            nonlocal seen
            seen = await self.probe("/readyz")
            return seen[0] == 503 and any(all(w in reason for w in words) for reason in seen[1]["reasons"])
        await until(seconds, lambda: f"/readyz to be 503 with {words}, it is {seen}", unready)
        return next(reason for reason in seen[1]["reasons"] if all(w in reason for w in words))

    async def becomes_ready(self, seconds=15):
        return await until(seconds, lambda: f"/readyz to be 200; log: {self.log()[-1500:]}", self.is_ready)

    # --- its objects ---

    async def apply(self):
        """Declares tenant, issuers, resource, agent and task type."""
        self.configure()
        (self.root / "objects.yaml").write_text("\n---\n".join(map(json.dumps, self.objects())))
        command = [self.binary, "apply", "-f", "objects.yaml", "--allow-widening"]
        done = subprocess.run(command, cwd=self.root, env={}, capture_output=True, text=True, timeout=60)
        check(done.returncode == 0, f"apply: {done.stdout}{done.stderr}")

    def objects(self):
        """YAML is a superset of JSON."""
        owner = {"owner": "group:support", "contact": "support@acme.example"}
        auth = {name: {"secret_sha256": [hashlib.sha256(s.encode()).hexdigest()]} for name, s in self.secrets.items()}
        yield declared("Tenant", "acme", {})
        for issuer in self.issuers:
            yield declared("TrustedIssuer", issuer.name, {
                "issuer": issuer.url, "jwks_uri": f"{issuer.url}/jwks", "principals": "human", "session_end": "token",
                "subject_prefix": "" if issuer is self.issuers[0] else f"{issuer.name}-",
                "accept": [{"type": "access_token", "audience": self.url, "typ": ["at+jwt"]}],
                "entitlements": [{"when": {"claim": "groups", "contains": "support"},
                                  "scopes": ["orders:read", "refunds:write"]}]})
        yield declared("Resource", "orders", {
            "uri": ORDERS, "names": ["orders"], "scopes": ["orders:read", "refunds:write"], "client_id": RESOURCE,
            "auth": auth[RESOURCE]})
        yield declared("Agent", AGENT, owner | {
            "client_id": AGENT, "class": "support", "auth": auth[AGENT],
            "upstream_clients": [{"issuer": issuer.url, "client": "console"} for issuer in self.issuers]})
        yield declared("TaskType", "refund_order", owner | {
            "description": "Refund one order", "review_by": "2036-01-01", "agents": ["class:support"],
            "scopes": ["orders:read", "refunds:write"], "default_scopes": ["orders:read"], "resources": ["orders"],
            "lifetime": self.lifetime})


def declared(kind, name, spec):
    return {"kind": kind, "tenant": "acme", "name": name, "spec": spec}


def compile_shim(folder):
    """Builds faults.c with the C compiler that the server's own build needs."""
    shim = pathlib.Path(folder) / "faults.so"
    command = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O1", "-o", shim, HERE / "faults.c", "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"drills: faults.c does not compile: {done.stderr}")
    return shim
