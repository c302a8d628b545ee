"""A verifier that follows status lists, run as a process: `python check_status.py SAMPLES_ISSUER WORLD|- NAME COMMAND…`.

COMMAND is called with ISSUER AUDIENCE TENANT SCOPE ACTOR, gets tokens line by line and answers each with `accepted` or
`refused: WHY`. First lists with one bend each; then, in WORLD, a real token that is revoked.
"""

import json
import pathlib
import subprocess
import sys
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

import requests
from tap import check, finish

samples_issuer, world, name, *command = sys.argv[1:]


class Verifier:
    def __init__(self, issuer, audience, tenant, scope, actor):
        arguments = [*command, issuer, audience, tenant, scope, actor]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def accepts(self, token):
        print(token, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().strip()
        assert answer == "accepted" or answer.startswith("refused: "), answer
        return answer == "accepted"


def bends():
    table = requests.get(f"{samples_issuer}/status-samples", timeout=5).json()
    expect = table["expect"]
    verifier = Verifier(
        samples_issuer, expect["audience"], expect["tenant"], expect["scope"], expect["actors"][0])
    for sample in table["samples"]:

        def behaves(sample=sample):
            assert verifier.accepts(sample["token"]) == sample["accepted"]

        check(f"{name} {'accepts' if sample['accepted'] else 'refuses'} {sample['name']}", behaves)
    check(f"{name} uses a list that cannot be fetched until its exp, and refuses from then on",
          lambda: runs_out(verifier, table["short"]))
    verifier.process.stdin.close()


def runs_out(verifier, token):
    """Its list says `ttl` 1 s and `exp` 4 s from the fetch."""
    began = time.monotonic()
    assert verifier.accepts(token)
    requests.post(f"{samples_issuer}/break", timeout=5)
    time.sleep(1.5)
    # A machine too busy to ask in time shows nothing here.
    assert verifier.accepts(token) or time.monotonic() - began > 3
    time.sleep(max(0.0, began + 5.5 - time.monotonic()))
    assert not verifier.accepts(token)
    requests.post(f"{samples_issuer}/mend", timeout=5)
    time.sleep(1.1)
    assert verifier.accepts(token), "a fresh list is taken as soon as there is one"


class Deployment:
    """A real taskgrant, and one of its agents."""

    def __init__(self, world):
        self.issuer, self.orders = world["issuer"], world["resources"]["orders"]["uri"]
        self.session = world["sessions"]["alice"]["access_token"]
        planner = world["agents"]["planner"]
        self.agent = (planner["client_id"], planner["secret"])

    def post(self, path, **form):
        answer = requests.post(f"{self.issuer}{path}", data=form, auth=self.agent, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer

    def exchange(self, subject):
        kind = "urn:ietf:params:oauth:token-type:access_token"
        return self.post(
            "/oauth/token", grant_type="urn:ietf:params:oauth:grant-type:token-exchange", subject_token=subject,
            subject_token_type=kind, resource=self.orders, scope="orders:read").json()["access_token"]


def revoked_within_the_bound(deployment):
    verifier = Verifier(deployment.issuer, deployment.orders, "acme", "orders:read", deployment.agent[0])
    live, root = deployment.exchange(deployment.session), deployment.exchange(deployment.session)
    child = deployment.exchange(root)
    assert all(map(verifier.accepts, [live, root, child]))
    deployment.post("/oauth/revoke", token=root)
    revoked = time.monotonic()
    # `ttl` in taskgrant.toml.in and the publisher's second; two more for a busy machine.
    while verifier.accepts(root) or verifier.accepts(child):
        assert time.monotonic() < revoked + 5 + 1 + 2, "a revoked token is still accepted"
        assert verifier.accepts(live)
        time.sleep(0.1)
    print(f"# refused {time.monotonic() - revoked:.1f} s after the revocation", flush=True)
    assert verifier.accepts(live), "a live token is still accepted"
    verifier.process.stdin.close()


bends()
if world != "-":
    deployment = Deployment(json.loads(pathlib.Path(world).read_text()))
    check(f"{name} refuses a revoked token and its child within the bound, and accepts a live one",
          lambda: revoked_within_the_bound(deployment))
finish()
