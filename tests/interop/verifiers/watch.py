"""verify.py and status.py on tokens, one a line: `python watch.py ISSUER AUDIENCE TENANT SCOPE ACTOR`."""

import sys

from status import StatusLists
from verify import signing_keys, verify

issuer, audience, tenant, scope, actor = sys.argv[1:]
keys = signing_keys(issuer)
lists = StatusLists(issuer, keys)
for token in map(str.strip, sys.stdin):
    try:
        lists.check(verify(token, keys, issuer=issuer, audience=audience, tenant=tenant, scope=scope, actors=[actor]))
        print("accepted", flush=True)
    except Exception as why:
        print("refused:", " ".join(repr(why).split()), flush=True)
