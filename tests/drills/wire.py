"""A client of HTTP/1.1 that keeps its connection and shows every answer as it came."""

import asyncio
import base64
import collections
import json
import urllib.parse

Answer = collections.namedtuple("Answer", "status headers json")


class Connection:
    """HTTP/1.1, kept alive, to a port on loopback or to the path of a socket."""

    def __init__(self, place):
        self.place = place

    async def __aenter__(self):
        if isinstance(self.place, int):
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.place)
        else:
            self.reader, self.writer = await asyncio.open_unix_connection(self.place)
        return self

    async def __aexit__(self, *_):
        self.writer.close()

    async def request(self, method, path, headers=(), body=b""):
        head = [f"{method} {path} HTTP/1.1", "host: drill", f"content-length: {len(body)}", *headers]
        self.writer.write("\r\n".join([*head, "", ""]).encode() + body)
        status, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await self.reader.readexactly(int(headers["content-length"]))
        is_json = headers.get("content-type", "").startswith("application/json")
        return Answer(int(status.split()[1]), headers, json.loads(body) if is_json else None)

    async def post(self, path, client, secret, form):
        basic = base64.b64encode(f"{client}:{secret}".encode()).decode()
        headers = [f"authorization: Basic {basic}", "content-type: application/x-www-form-urlencoded"]
        return await self.request("POST", path, headers, urllib.parse.urlencode(form).encode())
