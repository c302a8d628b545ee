"""Faults of what the server depends on: issuers, clock, files; and too many callers."""

import asyncio
import signal
import time

import rs256
from load import CHILD, ROOT, Book, Load, exchange, more_tokens
from storage import end
from wire import Connection
from world import check, until

HOUR = 3600


async def clock(world):
    """clock set by an hour each way"""
    await world.apply()
    await world.start()
    async with Load(world) as book:
        await more_tokens(book, 50)
        book.phase = "during"
        world.faults.set(clock_set_by=-HOUR)
        back = await world.becomes_unready("the clock was set by -3600 s")
        # The last token was issued in an hour: waiting for a minute does not make the clock right, nor does a restart.
        behind = await world.becomes_unready("the clock is behind the last token", seconds=75)
        await world.stop()
        await world.start(ready=False)
        await world.becomes_unready("the clock is behind the last token")
        world.faults.set(clock_set_by=0)
        await world.becomes_unready("the clock was set by +3600 s")
        right = await world.becomes_ready(seconds=75)
        book.only("during", "clock_unsteady")
        refused = book.codes("during")["clock_unsteady"]
        book.phase = "between"
        await more_tokens(book, 50)
        tokens = book.tokens("between")
        book.phase = "forward"
        world.faults.set(clock_set_by=HOUR)
        await world.becomes_unready("the clock was set by +3600 s")
        forward = await world.becomes_ready(seconds=75)
        book.only("forward", "clock_unsteady")
        refused += book.codes("forward")["clock_unsteady"]
        book.phase = "after"
        await more_tokens(book, 50)
    check(tokens and not book.codes("after"), f"refused after the fault: {book.codes('after')}")
    return f"back: /readyz \"{back}\", after a minute and over a restart \"{behind.split(',')[0]}\", served {right:.0f} s after " \
           f"it was set right; forward: served after {forward:.0f} s; {refused} times 503 clock_unsteady; {await end(world, book)}"


async def first_issuer(world):
    """What the admin API tells of the first issuer, while `/readyz` stays 200."""
    check(await world.is_ready(), "/readyz is red")
    async with Connection(world.data / "admin.sock") as connection:
        key_sets = (await connection.request("GET", "/admin/v1/status")).json["key_sets"]
    return next(issuer for issuer in key_sets if issuer["name"] == "first")


async def issuer_down(world):
    """issuer down"""
    await world.apply()
    await world.start()
    first = world.issuers[0]
    async with Load(world, clients=3) as book, Load(world, clients=3, issuer=1) as other:
        await more_tokens(book, 50)
        await first.down()
        async def missed():
            return (await first_issuer(world))["last_error"]
        noticed = await until(80, "the status to tell that the issuer is down", missed)
        await world.logged("key set not refreshed")
        await more_tokens(book, 50)
        book.only("before")
        # Keys are in memory only: a restart has to fetch them.
        await world.stop()
        book.phase = "during"
        await world.start()
        await until(15, "refusals", lambda: book.codes("during"))
        unusable = (await world.probe("/readyz"))[1]["key_sets"]["unusable"]
        check(unusable == 1 and not (await first_issuer(world))["ok"], f"{unusable} unusable key sets in /readyz")
        await more_tokens(other, 50)
        # Tokens of ours may still be narrowed: that takes no key of the issuer.
        roots = [one for one in book.received if one.phase == "during" and "parent_jti" not in rs256.claims(one.token)]
        check(not roots, "a session was believed without a key")
        book.only("during", "subject_token_issuer_unavailable")
        refused = sum(book.codes("during").values())
        await first.up()
        back = await more_tokens(book, 1, seconds=60)
        book.phase = "after"
        await more_tokens(book, 50)
    check(not other.refused, f"the other issuer was refused: {other.refused}")
    book.received += other.received
    return f"served with the keys it had, status and log told after {noticed:.0f} s; after a restart {refused} times 400 " \
           f"subject_token_issuer_unavailable, the other issuer never refused, served {back:.0f} s after it was up again; " \
           f"{await end(world, book)}"


async def key_withdrawn(world):
    """issuer key withdrawn"""
    await world.apply()
    await world.start()
    first, book = world.issuers[0], Book()
    ask = lambda key: exchange(world, book, first.session(world.url, key), ROOT)
    check(await ask(0), f"no token: {book.refused}")
    book.phase = "during"
    first.new_key()
    async def old_is_refused():
        await asyncio.sleep(0.5)
        return not await ask(0)
    took = await until(70, "the withdrawn key to be refused", old_is_refused)
    book.only("during", "subject_token_signature")
    check(await ask(1), f"the new key is refused: {book.refused}")
    # One more: the first token that the new key signs makes it known, and the old one withdrawn.
    await asyncio.sleep(11)
    first.new_key()
    at_once = await until(15, "the third key to be known", lambda: ask(2))
    check(not await ask(1), "the second key is still believed")
    book.only("during", "subject_token_signature")
    return f"refused {took:.0f} s later (its max-age is 60 s), and {at_once:.1f} s later where a token of a new key came " \
           f"first; tokens of before stay active; {await end(world, book)}"


async def served_on(world, book, count=30):
    """SIGHUP, and the server goes on as before."""
    world.process.send_signal(signal.SIGHUP)
    await more_tokens(book, count)
    check(await world.is_ready(), "/readyz is red")


async def policy_broken(world):
    """policy folder broken"""
    await world.apply()
    await world.start()
    rule, away = world.root / "policy/ceilings.rego", world.root / "away"
    text = rule.read_text()
    async with Load(world) as book:
        await more_tokens(book, 30)
        rule.write_text(text + "\nallow if {\n")
        await served_on(world, book)
        rule.parent.rename(away)
        await served_on(world, book)
        book.only("before")
        await world.stop()
        missing = await world.refuses_to_start("policy")
        away.rename(rule.parent)
        broken = await world.refuses_to_start("ceilings.rego")
        rule.write_text(text)
        book.phase = "after"
        await world.start()
        await more_tokens(book, 30)
    return f"the running server goes on; a start is refused: \"{missing}\", \"{broken}\"; {await end(world, book)}"


async def key_unreadable(world):
    """key file unreadable"""
    await world.apply()
    await world.start()
    [key] = (world.data / "keys").glob("*.pem")
    async with Load(world) as book:
        await more_tokens(book, 30)
        before = (await world.probe("/oauth/jwks"))[1]
        key.chmod(0)
        await served_on(world, book)
        await world.logged(key.name)
        book.only("before")
        await world.stop()
        said = await world.refuses_to_start(key.name, "Permission denied")
        key.chmod(0o600)
        book.phase = "after"
        await world.start()
        await more_tokens(book, 30)
        check((await world.probe("/oauth/jwks"))[1] == before, "the keys have changed")
    return f"SIGHUP keeps the key in use and logs the file; a start is refused: \"{said}\"; {await end(world, book)}"


async def overload(world):
    """ten times more callers than it can serve"""
    # A disk that takes a second for each commit, and a queue of 16, make the same capacity on every machine.
    world.limits["writer_queue"] = 16
    await world.apply()
    await world.start()
    async with Load(world, clients=1) as book:
        await more_tokens(book, 2)
    held = book.received[0].token
    world.faults.set(sync_takes=1000)
    book.phase, began = "measured", time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(closed_loop(world, book, held, began + 10))
    capacity = book.tokens("measured") / (time.monotonic() - began)
    book.only("measured")

    book.phase, seconds, idle = "during", 15, []
    count, began = int(10 * capacity * seconds), time.monotonic()
    async with asyncio.TaskGroup() as group:
        for n in range(count):
            await asyncio.sleep(began + n * seconds / count - time.monotonic())
            group.create_task(one_call(world, book, held, idle))
            if n == count // 2:
                probes = [await world.probe("/healthz"), await world.probe("/readyz")]
    took = time.monotonic() - began
    book.only("during", "not_recorded")
    check([status for status, _ in probes] == [200, 200], f"probes under load: {probes}")
    served, refused = book.tokens("during"), sum(book.codes("during").values())
    check(served + refused == count, f"{count - served - refused} of {count} calls had no answer")
    check(served / took > 0.5 * capacity, f"only {served / took:.0f}/s of {capacity:.0f}/s are served")
    check(book.longest["during"] < 10, f"a call took {book.longest['during']:.1f} s")
    world.faults.set(sync_takes=0)
    book.phase = "after"
    await asyncio.gather(*(one_call(world, book, held, idle) for _ in range(10)))
    check(not book.codes("after"), f"refused after the load: {book.codes('after')}")
    for connection in idle:
        await connection.__aexit__()
    return f"{capacity:.0f}/s is all it can commit, {count / seconds:.0f}/s came for {seconds} s: {served} served " \
           f"({served / took:.0f}/s), {refused} times 503 not_recorded with Retry-After, longest answer " \
           f"{book.longest['during']:.1f} s, /readyz stayed 200; {await end(world, book)}"


async def closed_loop(world, book, held, until_time):
    async with Connection(world.port) as connection:
        while time.monotonic() < until_time:
            await exchange(world, book, held, CHILD, connection)


async def one_call(world, book, held, idle):
    connection = idle.pop() if idle else await Connection(world.port).__aenter__()
    await exchange(world, book, held, CHILD, connection)
    idle.append(connection)
