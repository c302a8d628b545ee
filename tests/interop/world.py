"""Writes what one run needs: `python world.py WORK PROVIDER_URL TASKGRANT_URL LISTEN REPOSITORY`.

WORK/taskgrant.toml and WORK/objects are the templates of this folder with @NAME@ filled in; WORK/world.json is what
the clients read. The secrets are made here: the server is told their SHA-256 only.
"""

import hashlib
import json
import pathlib
import re
import secrets
import sys

from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

here = pathlib.Path(__file__).resolve().parent
work, provider, taskgrant, listen, repository = sys.argv[1:]
work = pathlib.Path(work)

parties = {
    "planner": "refund-planner", "worker": "orders-worker", "stranger": "stranger",
    "orders": "orders-api", "tickets": "tickets-api",
}


def key(kid):
    """A fresh P-256 key as a private JWK."""
    return {**ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True), "kid": kid, "alg": "ES256"}


def public(jwk):
    return {name: value for name, value in jwk.items() if name not in ("d", "key_ops")}


known = {
    name: {"client_id": client_id, "secret": secrets.token_urlsafe(32), "key": key(name)}
    for name, client_id in parties.items()
}

values = {
    "PROVIDER": provider, "TASKGRANT": taskgrant, "LISTEN": listen, "REPOSITORY": repository, "DATA": str(work / "data"),
    **{f"SHA256_{name.upper()}": hashlib.sha256(party["secret"].encode()).hexdigest() for name, party in known.items()},
    **{f"JWKS_{name.upper()}": json.dumps({"keys": [public(party["key"])]}) for name, party in known.items()},
}


def fill(source, target):
    target.write_text(re.sub(r"@([A-Z][A-Z0-9_]+)@", lambda match: values[match[1]], source.read_text()))


(work / "data").mkdir(mode=0o700)
(work / "objects").mkdir()
fill(here / "taskgrant.toml.in", work / "taskgrant.toml")
for source in sorted((here / "objects").glob("*.yaml")):
    fill(source, work / "objects" / source.name)

world = {
    "issuer": taskgrant,
    "provider": provider,
    "sessions": json.loads((work / "sessions.json").read_text()),
    "agents": {name: known[name] for name in ("planner", "worker", "stranger")},
    "resources": {name: {**known[name], "uri": f"https://{name}.acme.example"} for name in ("orders", "tickets")},
}
(work / "world.json").write_text(json.dumps(world))
