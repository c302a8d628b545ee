"""verify.py against the samples: `python test_verify.py SAMPLES_ISSUER`."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

import requests
from tap import check, finish, refuses
from verify import signing_keys, verify

issuer = sys.argv[1]
table = requests.get(f"{issuer}/samples", timeout=5).json()
keys = signing_keys(issuer)
expect = table["expect"]

for sample in table["samples"]:

    def behaves(sample=sample):
        refused = refuses(lambda: verify(sample["token"], keys, **expect))
        assert refused != sample["accepted"]

    check(f"verify.py {'accepts' if sample['accepted'] else 'refuses'} {sample['name']}", behaves)
finish()
