"""How a service checks a Taskgrant token with PyJWT. `pip install "pyjwt[crypto]" requests`."""

import jwt
import requests


def signing_keys(issuer):
    """The issuer's keys by way of its metadata. Make it once: it caches, and looks again when it meets a new key."""
    metadata = requests.get(f"{issuer}/.well-known/oauth-authorization-server", timeout=5).json()
    if metadata["issuer"] != issuer:
        raise ValueError("the metadata is of another issuer")
    return jwt.PyJWKClient(metadata["jwks_uri"])


def verify(token, keys, *, issuer, audience, tenant, scope, actors):
    """The claims, or an exception. Only the outermost `act` is the caller: nested actors are history, not authority."""
    if jwt.get_unverified_header(token).get("typ", "").lower() not in ("at+jwt", "application/at+jwt"):
        raise jwt.InvalidTokenError("not an access token")
    claims = jwt.decode(
        token, keys.get_signing_key_from_jwt(token), algorithms=["ES256"], issuer=issuer, audience=audience, leeway=2,
        options={"strict_aud": True, "require": ["exp", "iat", "sub", "tenant", "scope", "act"]})
    if claims["tenant"] != tenant or scope not in claims["scope"].split() or claims["act"]["sub"] not in actors:
        raise jwt.InvalidTokenError("not this tenant, scope or actor")
    return claims
