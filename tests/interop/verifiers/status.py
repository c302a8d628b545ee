"""Whether a Taskgrant token is revoked, by its status list; for claims that verify.py has accepted."""

import base64
import time
import zlib

import jwt
import requests


class StatusLists:
    """The lists of one issuer, each kept for its `ttl`. Make it once, with the keys of verify.py."""

    def __init__(self, issuer, keys):
        self.issuer, self.keys, self.kept = issuer, keys, {}

    def check(self, claims):
        """An exception when the token is revoked, or when nobody can tell."""
        place = claims["status"]["status_list"]
        index, bits = place["idx"], self.bits(place["uri"])
        if not 0 <= index < len(bits) * 8 or bits[index // 8] >> index % 8 & 1:
            raise jwt.InvalidTokenError("revoked, or beyond the end of its status list")

    def bits(self, uri):
        if not uri.startswith(f"{self.issuer}/oauth/status/"):
            raise jwt.InvalidTokenError("the status list is somebody else's")
        kept, now = self.kept.get(uri), time.time()
        if kept is None or now >= kept["look_again"]:
            try:
                kept = self.kept[uri] = self.fetch(uri)
            except Exception as fault:
                if kept is None or now >= kept["exp"]:
                    raise jwt.InvalidTokenError("the status list cannot be had") from fault
                kept["look_again"] = now + 1
        return kept["bits"]

    def fetch(self, uri):
        answer = requests.get(uri, headers={"Accept": "application/statuslist+jwt"}, timeout=5, allow_redirects=False)
        if answer.status_code != 200 or jwt.get_unverified_header(answer.text).get("typ") != "statuslist+jwt":
            raise jwt.InvalidTokenError("not a status list")
        told = jwt.decode(
            answer.text, self.keys.get_signing_key_from_jwt(answer.text), algorithms=["ES256"], leeway=2,
            options={"require": ["sub", "iat", "exp", "ttl", "status_list"]})
        if told["sub"] != uri or told["status_list"]["bits"] != 1 or time.time() >= told["exp"]:
            raise jwt.InvalidTokenError("another status list, of another kind, or one that has run out")
        packed = told["status_list"]["lst"]
        bits = zlib.decompressobj().decompress(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), 1 << 20)
        # Counted from `iat`, so that a cache in between makes nothing last longer.
        return {"bits": bits, "exp": told["exp"], "look_again": min(told["iat"], time.time()) + told["ttl"]}
