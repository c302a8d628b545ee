"""Makes half of the generated forms good but for one parameter, so that they get beyond the first look."""

import os

import schemathesis

SESSION, TOKEN = os.environ["CONTRACT_TOKENS"].split()
EXCHANGE = {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "resource": "https://orders.acme.example"}
ROOT, CHILD = EXCHANGE | {"subject_token": SESSION, "task_type": "refund_order"}, EXCHANGE | {"subject_token": TOKEN}


@schemathesis.serializer("application/secevent+jwt")
def text(context, value):
    """A security event token is a text."""
    return {"data": str(value).encode("utf-8", errors="replace")}


@schemathesis.hook
def map_body(context, body):
    """What becomes of a form depends on nothing but the form: the seed decides."""
    if not isinstance(body, dict):
        return body
    turn = sum(map(len, body)) + sum(len(str(value)) for value in body.values())
    if turn % 2 == 0:
        return body
    if "token" in body:
        return body | {"token": (SESSION, TOKEN)[turn // 2 % 2]}
    if "grant_type" not in body:
        return body
    names = sorted(set(map(str, body)) - {"subject_token"})
    good = (ROOT, CHILD)[len(names) % 2]
    one = names[turn // 4 % len(names)]
    return good | {one: body[one]} if one in body and not one.startswith("client_") else good
