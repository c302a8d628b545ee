"""The main job by Authlib, checked by PyJWT: `python exchange.py WORLD METHOD`, METHOD as in RFC 7591 §2."""

import json
import pathlib
import sys

here = pathlib.Path(__file__).resolve()
sys.path += [str(here.parents[2]), str(here.parents[2] / "verifiers")]

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from tap import check, finish, refuses
from verify import signing_keys, verify

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"

world = json.loads(pathlib.Path(sys.argv[1]).read_text())
method = sys.argv[2]
issuer, sessions, orders = world["issuer"], world["sessions"], world["resources"]["orders"]
metadata = requests.get(f"{issuer}/.well-known/oauth-authorization-server", timeout=5).json()
keys = signing_keys(issuer)


class Agent:
    """One registered agent and the last answer it got, as the server sent it."""

    def __init__(self, name, secret=None):
        self.id = world["agents"][name]["client_id"]
        secret = secret or world["agents"][name]["secret"]
        self.session = OAuth2Session(self.id, secret, token_endpoint_auth_method=method)
        self.session.register_compliance_hook("access_token_response", self.remember)

    def remember(self, response):
        self.answer = response
        return response

    def exchange(self, subject, kind=ACCESS_TOKEN, **asked):
        return dict(self.session.fetch_token(
            metadata["token_endpoint"], grant_type=EXCHANGE, subject_token=subject, subject_token_type=kind, **asked))

    def refused(self, error, subject, kind=ACCESS_TOKEN, **asked):
        """The refusal's members; fails when a token is issued or the code is another one."""
        try:
            self.exchange(subject, kind, **asked)
        except OAuthError as refusal:
            assert refusal.error == error, (refusal.error, self.answer.text)
            return self.answer.json()
        raise AssertionError(f"issued: {asked}")


def claims(token, scope="orders:read", **bent):
    expect = {"issuer": issuer, "audience": orders["uri"], "tenant": "acme", "actors": ["refund-planner"], **bent}
    return verify(token, keys, scope=scope, **expect)


planner, worker, stranger = Agent("planner"), Agent("worker"), Agent("stranger")
session = sessions["alice"]["access_token"]


def discovery():
    assert metadata["issuer"] == issuer
    assert EXCHANGE in metadata["grant_types_supported"]
    assert method in metadata["token_endpoint_auth_methods_supported"]


def root():
    answer = planner.exchange(session, resource=orders["uri"], scope="orders:read refunds:write")
    assert answer["issued_token_type"] == ACCESS_TOKEN and answer["token_type"].lower() == "bearer"
    assert set(answer["scope"].split()) == {"orders:read", "refunds:write"}
    assert 0 < answer["expires_in"] <= 300 and "refresh_token" not in answer
    assert planner.answer.headers["Cache-Control"] == "no-store"
    return answer["access_token"]


def root_claims():
    is_ = claims(wide, scope="refunds:write")
    assert is_["sub"] == "alice" and is_["client_id"] == "refund-planner"
    assert is_["sub_id"] == {"format": "iss_sub", "iss": world["provider"], "sub": "alice"}
    assert is_["task_type"] == "refund_order@1" and is_["depth_left"] == 2
    assert is_["exp"] <= is_["task_exp"] and "act" not in is_["act"]


def by_name_and_default():
    answer = planner.exchange(session, audience="orders-service")
    assert answer["scope"] == "orders:read"
    claims(answer["access_token"])


def from_id_token():
    claims(planner.exchange(sessions["alice"]["id_token"], ID_TOKEN, resource=orders["uri"])["access_token"])


def exchange_only():
    answer = planner.exchange(session, audience=issuer, scope="orders:read refunds:write tickets:read")
    is_ = verify(answer["access_token"], keys, issuer=issuer, audience=issuer, tenant="acme", scope="tickets:read",
                 actors=["refund-planner"])
    assert set(is_["resources"]) == {orders["uri"], world["resources"]["tickets"]["uri"]}
    assert refuses(lambda: claims(answer["access_token"]))
    return answer["access_token"]


def narrower():
    child = planner.exchange(whole_task, resource=orders["uri"], scope="orders:read")
    is_, parent = claims(child["access_token"]), claims(whole_task, audience=issuer)
    assert is_["scope"] == "orders:read" and is_["task_id"] == parent["task_id"] and is_["act"] == parent["act"]
    assert is_["exp"] <= parent["exp"] and is_["depth_left"] == parent["depth_left"]
    return child["access_token"]


def too_much():
    answer = planner.refused("invalid_scope", narrow, resource=orders["uri"], scope="orders:read refunds:write")
    assert planner.answer.status_code == 400
    assert answer["ceiling"] == "parent" and answer["retry"] == "narrower" and answer["decision_id"]
    assert "orders:read" in json.dumps(answer["grantable"]) and "refunds:write" not in json.dumps(answer["grantable"])


def other_resource():
    planner.refused("invalid_target", narrow, resource=world["resources"]["tickets"]["uri"])


def hand_over():
    answer = planner.exchange(whole_task, audience=issuer, scope="orders:read", delegate_to="orders-worker")
    is_ = claims(answer["access_token"], audience=issuer)
    assert is_["may_act"]["sub"] == "orders-worker" and is_["exp"] - is_["iat"] <= 60
    stranger.refused("invalid_request", answer["access_token"], resource=orders["uri"])
    planner.refused("invalid_request", answer["access_token"], resource=orders["uri"])
    redeemed = worker.exchange(answer["access_token"], resource=orders["uri"])
    assert redeemed["scope"] == "orders:read"
    worker.refused("invalid_request", answer["access_token"], resource=orders["uri"])
    return redeemed["access_token"]


def handed_over_claims():
    is_, parent = claims(handed, actors=["orders-worker"]), claims(whole_task, audience=issuer)
    assert is_["sub"] == "alice" and is_["task_id"] == parent["task_id"]
    assert is_["act"]["sub"] == "orders-worker" and is_["act"]["act"]["sub"] == "refund-planner"
    assert is_["depth_left"] == parent["depth_left"] - 1 and is_["client_id"] == "orders-worker"
    assert refuses(lambda: claims(handed, actors=["refund-planner"]))


def bent_expectations():
    assert refuses(lambda: claims(narrow, tenant="globex"))
    assert refuses(lambda: claims(narrow, audience="https://tickets.acme.example"))
    assert refuses(lambda: claims(narrow, issuer="https://elsewhere.example"))
    assert refuses(lambda: claims(narrow, scope="refunds:write"))
    assert refuses(lambda: claims(session))


def no_entitlement():
    planner.refused("invalid_target", sessions["bob"]["access_token"], resource=orders["uri"], scope="orders:read")


def not_the_presenter():
    planner.refused("invalid_request", sessions["alice_elsewhere"]["access_token"], resource=orders["uri"])
    stranger.refused("invalid_request", session, resource=orders["uri"])


def wrong_secret():
    impostor = Agent("planner", secret="A" * 43)
    impostor.refused("invalid_client", session, resource=orders["uri"])
    assert impostor.answer.status_code == 401


def introspection():
    orders_api = OAuth2Session(orders["client_id"], orders["secret"], token_endpoint_auth_method=method)
    url = metadata["introspection_endpoint"]
    answer = orders_api.introspect_token(url, token=narrow, token_type_hint="access_token").json()
    assert answer["active"] is True and answer["sub"] == "alice" and answer["act"]["sub"] == "refund-planner"
    tickets = world["resources"]["tickets"]
    tickets_api = OAuth2Session(tickets["client_id"], tickets["secret"], token_endpoint_auth_method=method)
    assert tickets_api.introspect_token(url, token=narrow).json() == {"active": False}


def revocation():
    parent = planner.exchange(session, audience=issuer)["access_token"]
    child = planner.exchange(parent, resource=orders["uri"])["access_token"]
    assert planner.session.revoke_token(metadata["revocation_endpoint"], token=parent).status_code == 200
    orders_api = OAuth2Session(orders["client_id"], orders["secret"], token_endpoint_auth_method=method)
    answer = orders_api.introspect_token(metadata["introspection_endpoint"], token=child).json()
    assert answer == {"active": False}
    planner.refused("invalid_request", child, resource=orders["uri"])


def step(name, test):
    return check(f"Authlib/{method}: {name}", test)


step("metadata names the grant and the method", discovery)
wide = step("a session token becomes a task token", root)
step("its claims are the task's, and verify.py accepts it", root_claims)
step("a resource may be named by `audience`, and scope left out", by_name_and_default)
step("an ID token is a session token too", from_id_token)
whole_task = step("an exchange-only token carries both resources, and no service accepts it", exchange_only)
narrow = step("a child is narrower, of the same task, and not longer", narrower)
step("asking for more than the parent holds is invalid_scope, with what is grantable", too_much)
step("asking for a resource the parent lacks is invalid_target", other_resource)
handed = step("a hand-over token is redeemed once, by the named agent only", hand_over)
step("the chain is nested, and only its outermost actor counts", handed_over_claims)
step("the verifier refuses another tenant, audience, issuer, scope, and the session itself", bent_expectations)
step("a person without an entitlement delegates nothing", no_entitlement)
step("a session of another application, or another agent's, is refused", not_the_presenter)
step("a wrong secret is invalid_client", wrong_secret)
step("introspection answers the audience and nobody else", introspection)
step("revoking a parent ends its children", revocation)
finish()
