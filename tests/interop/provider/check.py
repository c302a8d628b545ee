"""The same by PyJWT: `python check.py PROVIDER TASKGRANT_URL SESSIONS`."""

import json
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

import jwt
import requests
from tap import check, finish

provider, taskgrant, file = sys.argv[1:]
sessions = json.loads(pathlib.Path(file).read_text())
metadata = requests.get(f"{provider}/.well-known/openid-configuration", timeout=5).json()
keys = jwt.PyJWKClient(metadata["jwks_uri"])


def decode(token, algorithm, audience):
    key = keys.get_signing_key_from_jwt(token)
    return jwt.decode(token, key, algorithms=[algorithm], issuer=provider, audience=audience)


def access_token():
    claims = decode(sessions["bob"]["access_token"], "RS256", taskgrant)
    assert jwt.get_unverified_header(sessions["bob"]["access_token"])["typ"] == "at+jwt"
    assert (claims["sub"], claims["client_id"], claims["groups"]) == ("bob", "support-portal", ["sales"])


def id_token():
    claims = decode(sessions["bob"]["id_token"], "ES256", "support-portal")
    assert (claims["sub"], claims["groups"]) == ("bob", ["sales"])


check("provider/PyJWT: the access token is an RFC 9068 JWT for Taskgrant", access_token)
check("provider/PyJWT: the ID token is for the application", id_token)
finish()
