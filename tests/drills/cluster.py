"""PostgreSQL for a drill: a throw-away server, its standby, and an address before it that can be cut and moved."""

import asyncio
import contextlib
import os
import pathlib
import pwd
import secrets
import sqlite3
import subprocess

from world import check, free_port

BINARIES = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
COMMIT = b"Q\0\0\0\x0bCOMMIT\0"


def as_server():
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    with contextlib.suppress(KeyError):
        pwd.getpwnam("postgres")
        return ["runuser", "-u", "postgres", "--"]
    return ["runuser", "-u", "nobody", "--"]


class Server:
    """One PostgreSQL server that syncs to disk."""

    def __init__(self):
        check(BINARIES, "no PostgreSQL server binaries: install Debian's postgresql package")
        self.port, self.password = free_port(), secrets.token_hex(16)
        made = self.as_server("mktemp", "-d", "/tmp/taskgrant-drill-pg.XXXXXX")
        self.folder = pathlib.Path(made.strip())

    def as_server(self, *command):
        done = subprocess.run([*as_server(), *command], capture_output=True, text=True, cwd="/tmp", timeout=120)
        check(done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}")
        return done.stdout

    def run(self, name, *arguments):
        return self.as_server(BINARIES[-1] / name, *arguments)

    def make(self):
        script = f"umask 077; printf %s {self.password} >{self.folder}/password"
        self.as_server("sh", "-c", script)
        self.run("initdb", "-D", self.folder / "data", "-U", "owner", f"--pwfile={self.folder}/password",
                 "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C")
        return self

    def follow(self, primary):
        """Makes this a standby of `primary`, which waits for it with each commit from then on."""
        self.password = primary.password
        source = f"postgres://owner:{primary.password}@127.0.0.1:{primary.port}/postgres?application_name=standby"
        self.run("pg_basebackup", "-D", self.folder / "data", "-d", source, "-R", "-X", "stream", "--checkpoint=fast")
        self.start()
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        primary.sql("SELECT pg_reload_conf()")
        return self

    def start(self):
        # `-l`: otherwise the server keeps our pipe open.
        self.run("pg_ctl", "-D", self.folder / "data", "-l", self.folder / "log", "-w", "-t", "60", "-o",
                 f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''", "start")
        return self

    def stop(self, mode="fast"):
        self.run("pg_ctl", "-D", self.folder / "data", "-m", mode, "-w", "stop")

    def promote(self):
        self.run("pg_ctl", "-D", self.folder / "data", "-w", "promote")

    def url(self, account="owner", database="postgres", port=None):
        return f"postgres://{account}:{self.password}@127.0.0.1:{port or self.port}/{database}"

    def sql(self, text, database="postgres"):
        command = [BINARIES[-1] / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.url(database=database)]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
        check(done.returncode == 0, f"psql: {done.stderr}")
        return done.stdout.strip()

    def remove(self):
        with contextlib.suppress(Exception):
            self.stop("immediate")
        self.as_server("rm", "-rf", self.folder)


class Address:
    """A TCP address that leads to a server; it can be cut, also in the middle of a commit, and moved."""

    def __init__(self, server):
        self.port, self.leads_to, self.open, self.cuts = free_port(), server.port, set(), []

    async def up(self):
        self.listener = await asyncio.start_server(self.accept, "127.0.0.1", self.port)

    async def down(self):
        self.listener.close()
        self.cut()

    def cut(self):
        for writer in list(self.open):
            writer.transport.abort()

    def cut_next_commit(self, after):
        """Cuts the connection of the next commit: before the server hears of it, or after, but before its answer."""
        self.cuts.append(after)

    async def accept(self, reader, writer):
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.leads_to)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, to_writer}
        self.open |= ends
        try:
            pump = asyncio.create_task(self.pump(to_reader, writer))
            await self.pump(reader, to_writer, commits=True)
            pump.cancel()
        finally:
            for end in ends:
                end.transport.abort()
            self.open -= ends

    async def pump(self, reader, writer, commits=False):
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if commits and self.cuts and COMMIT in data:
                    after = self.cuts.pop(0)
                    if after:
                        writer.write(data)
                        await writer.drain()
                        await asyncio.sleep(0.01)
                    return
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


# What records.py looks into, with bytes in hexadecimal on the way.
TABLES = {
    "log_head": ["size", "frontier"],
    "decisions": ["idx", "id", "outcome", "leaf"],
    "decision_records": ["idx", "salt", "record"],
    "tokens": ["jti", "decision_id", "exp", "parent"],
}
BYTES = {"frontier", "leaf", "salt", "record"}


def as_sqlite(server, database):
    """The tables of a database, in memory: the checks after a drill are the same ones."""
    memory = sqlite3.connect(":memory:")
    for table, columns in TABLES.items():
        memory.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
        chosen = ", ".join(f"encode({c}, 'hex')" if c in BYTES else c for c in columns)
        lines = server.sql(f"COPY (SELECT {chosen} FROM {table}) TO STDOUT", database).splitlines()
        rows = ([None if v == "\\N" else v for v in line.split("\t")] for line in lines)
        number = {"size", "idx", "exp"}
        typed = ([int(v) if c in number else bytes.fromhex(v) if c in BYTES and v is not None else v
                  for c, v in zip(columns, row)] for row in rows)
        memory.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", typed)
    return memory
