"""What must hold of the data after every fault: each token that left verifies and is on record, and the log is whole."""

import base64
import contextlib
import hashlib
import json

import rs256
from world import Failed, check


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def nothing_lost(world, book, jwks):
    """Looks into the data of a stopped server; returns what was found, for the result line."""
    check(book.received, "no token was issued at all")
    check(not book.faults, f"{len(book.faults)} answers that are not as documented, first: {book.faults[:1]}")
    with contextlib.closing(world.records()) as database:
        for one in book.received:
            recorded(database, one, rs256.verify(one.token, jwks))
        leaves = log_is_whole(database)
        [[orphans]] = database.execute(
            "SELECT count(*) FROM tokens WHERE decision_id NOT IN (SELECT id FROM decisions WHERE outcome = 'allow')")
        check(orphans == 0, f"{orphans} token records without their decision")
    return f"{len(book.received)} tokens verified and on record, log of {leaves} leaves whole"


def recorded(database, one, claims):
    """The token's record and its decision say what the token and the answer said."""
    row = database.execute(
        "SELECT t.decision_id, t.exp, t.parent, d.outcome, r.record FROM tokens t JOIN decisions d ON d.id = t.decision_id "
        "JOIN decision_records r ON r.idx = d.idx WHERE t.jti = ?", [claims["jti"]]).fetchone()
    check(row, f"a token from {one.phase} the fault has no record: {claims['jti']}")
    decision_id, exp, parent, outcome, record = row
    stored = (decision_id, exp // 1_000_000, parent, outcome, json.loads(record)["jti"])
    told = (one.decision_id, claims["exp"], claims.get("parent_jti"), "allow", claims["jti"])
    check(stored == told, f"recorded {stored}, told {told}")


def log_is_whole(database):
    """Dense, each record as its leaf binds it, and with the root that the head holds (RFC 6962 §2.1)."""
    size, frontier = database.execute("SELECT size, frontier FROM log_head").fetchone()
    peaks, count = [], 0
    rows = database.execute(
        "SELECT d.idx, d.leaf, r.salt, r.record FROM decisions d JOIN decision_records r ON r.idx = d.idx ORDER BY d.idx")
    for idx, leaf, salt, record in rows:
        check(idx == count, f"the log has no leaf {count}")
        if bound(leaf) != sha256(salt, record):
            raise Failed(f"leaf {idx} does not bind its record")
        peak = sha256(b"\0", leaf)
        for _ in range((~count & (count + 1)).bit_length() - 1):
            peak = sha256(b"\1", peaks.pop(), peak)
        peaks.append(peak)
        count += 1
    check(count == size and b"".join(peaks) == bytes(frontier), f"{count} leaves do not make the head of {size}")
    return count


def bound(leaf):
    """The hash of the record in a leaf."""
    return base64.urlsafe_b64decode(json.loads(leaf)["record"] + "=")
