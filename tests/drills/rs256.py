"""RS256 (RFC 7518 §3.3) with nothing but whole numbers, so that the drills need no package. For test keys only."""

import base64
import hashlib
import json
import secrets

# DigestInfo of SHA-256 (RFC 8017 §9.2).
PREFIX = bytes.fromhex("3031300d060960864801650304020105000420")
SMALL = [n for n in range(3, 2000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2))]


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def padded(signed, length):
    """EMSA-PKCS1-v1_5 as a number."""
    end = PREFIX + hashlib.sha256(signed).digest()
    return int.from_bytes(b"\0\1" + b"\xff" * (length - len(end) - 3) + b"\0" + end)


def prime(bits):
    """Large, and not 1 modulo 65537; Miller-Rabin with 20 bases."""
    while True:
        n = secrets.randbits(bits) | (3 << (bits - 2)) | 1
        if n % 65537 == 1 or any(n % p == 0 for p in SMALL):
            continue
        odd, twos = n - 1, 0
        while odd % 2 == 0:
            odd, twos = odd // 2, twos + 1
        if all(passes(n, secrets.randbelow(n - 3) + 2, odd, twos) for _ in range(20)):
            return n


def passes(n, base, odd, twos):
    x = pow(base, odd, n)
    for _ in range(twos):
        if x in (1, n - 1):
            return True
        x = x * x % n
        if x == 1:
            return False
    return False


class Key:
    """A signing key of 2048 bits."""

    def __init__(self):
        self.p, self.q = prime(1024), prime(1024)
        self.n = self.p * self.q
        d = pow(65537, -1, (self.p - 1) * (self.q - 1))
        self.dp, self.dq, self.inverse = d % (self.p - 1), d % (self.q - 1), pow(self.q, -1, self.p)
        self.kid = secrets.token_hex(8)

    def jwk(self):
        n = self.n.to_bytes(256)
        return {"kty": "RSA", "kid": self.kid, "use": "sig", "alg": "RS256", "n": encode(n), "e": "AQAB"}

    def sign(self, typ, claims):
        parts = [json.dumps(part).encode() for part in ({"alg": "RS256", "kid": self.kid, "typ": typ}, claims)]
        signed = ".".join(map(encode, parts))
        message = padded(signed.encode(), 256)
        a, b = pow(message, self.dp, self.p), pow(message, self.dq, self.q)
        signature = b + (a - b) * self.inverse % self.p * self.q
        return f"{signed}.{encode(signature.to_bytes(256))}"


def verify(token, jwks):
    """The claims of a token that a key of `jwks` has signed; else an exception."""
    head, body, signature = token.split(".")
    header = json.loads(decode(head))
    if header["alg"] != "RS256" or header["typ"] != "at+jwt":
        raise ValueError(f"not an access token in RS256: {header}")
    [jwk] = [jwk for jwk in jwks["keys"] if jwk["kid"] == header["kid"]]
    n, e, signature = (int.from_bytes(decode(part)) for part in (jwk["n"], jwk["e"], signature))
    if pow(signature, e, n) != padded(f"{head}.{body}".encode(), (n.bit_length() + 7) // 8):
        raise ValueError("the signature is wrong")
    return claims(token)


def claims(token):
    """What a token says of itself."""
    return json.loads(decode(token.split(".")[1]))
