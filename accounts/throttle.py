"""Limits on how often something may be tried, by network and by account: counters in the database, no cache.

`take` counts an attempt before anything is hashed, in a statement of its own, and raises Throttled if it is one too
many; the middleware answers that with 429 and the time to wait. An attempt that was right is given back.

A counter is one time, moved by each attempt: the generic cell rate algorithm (ITU-T I.371), which needs no window that
begins at some hour. `count` attempts are possible at once, then one in each `per / count`. So in any stretch of time
there are no more than `count + stretch * count / per`, and no more than twice `count` in any `per`. An attempt that is
refused moves nothing: after the announced time the next one is possible, however often somebody has tried meanwhile.

Nobody can lock another out:

- An attempt that one limit refuses uses up nothing of the others.
- A known browser (`accounts.browsers`) has a limit of its own in place of all others, for each account. Only second
  factors have one more for all known browsers of the account, which nobody uses up who cannot reset its password.
- Who is refused an email since others have asked for too many finds theirs in the inbox: the limit by account is full
  only if such mails went out within the hour, and each has a link that works for as long.
- A password reset makes the browser a known one.

The subject is what was typed, not what was found: a known address and an unknown one are counted alike, by the same
statements. Keys are digests under SECRET_KEY; a new key begins all counts anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.cache import add_never_cache_headers
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts import browsers
from accounts.events import Kind, Outcome, record
from accounts.models import User
from accounts.network import address_of, network_of


@dataclass(frozen=True)
class Limit:
    """`count` at once, then one in each `per / count`."""

    count: int
    per: timedelta

    @property
    def step_us(self) -> int:
        """What an attempt costs, in microseconds."""
        return -(-(self.per // timedelta(microseconds=1)) // self.count)


@dataclass(frozen=True)
class Policy:
    """The limits of one thing that can be tried; None: no such limit. `kind` is the security event of a refusal."""

    kind: Kind
    account_and_network: Limit | None = None
    network: Limit | None = None
    account: Limit | None = None
    known_browser: Limit | None = None
    known_browsers: Limit | None = None  # all those of the account together


FIVE_MINUTES, HOUR, DAY = timedelta(minutes=5), timedelta(hours=1), timedelta(days=1)

# A person mistypes a password some times, then thinks: 5 at once, later one a minute. An office behind one address has
# ten of these. By account no more than 100 wrong passwords in any hour (OWASP ASVS 4.0, 2.2.1), half of them at once,
# from however many networks: 1,200 a day against 12 characters that are on no list.
LOGIN = Policy(
    Kind.LOGIN,
    account_and_network=Limit(5, FIVE_MINUTES),
    network=Limit(50, FIVE_MINUTES),
    account=Limit(50, HOUR),
    known_browser=Limit(10, FIVE_MINUTES),
)

# The same question, asked of somebody who is logged in; a stolen session shall not find out the password.
REAUTHENTICATION = Policy(
    Kind.REAUTHENTICATION,
    account_and_network=Limit(5, FIVE_MINUTES),
    account=Limit(50, HOUR),
    known_browser=Limit(10, FIVE_MINUTES),
)

# Who gets here knows the password. Three codes of a million are right at a time: 20 tries a day find one in 45 years on
# average. Whoever reads the mails of the account can make any number of known browsers by resetting the password, so
# these have no more than that together.
SECOND_FACTOR = Policy(
    Kind.SECOND_FACTOR,
    account_and_network=Limit(5, FIVE_MINUTES),
    account=Limit(20, DAY),
    known_browser=Limit(10, FIVE_MINUTES),
    known_browsers=Limit(20, DAY),
)

# Each sends a mail to somebody who may not have asked for it, and a signup costs a hash: a class signs up at once, but
# nobody's inbox fills up.
SIGNUP = Policy(Kind.SIGNUP, account_and_network=Limit(3, HOUR), network=Limit(30, HOUR), account=Limit(5, HOUR))
RESET = Policy(Kind.RESET_ASKED, account_and_network=Limit(3, HOUR), network=Limit(30, HOUR), account=Limit(5, HOUR))
RESEND = Policy(Kind.RESEND_ASKED, account_and_network=Limit(3, HOUR), network=Limit(30, HOUR), account=Limit(5, HOUR))

# Each reads all that there is about a user.
EXPORT = Policy(Kind.EXPORT_ASKED, account=Limit(5, DAY))

# One event for each limit that is reached, not one for each request of an attack.
_EVENT = Limit(1, HOUR)


class Throttled(Exception):  # noqa: N818 - an answer, not an error
    """One attempt too many. `retry_after` is the time to wait."""

    def __init__(self, retry_after: timedelta, kind: Kind) -> None:
        super().__init__(f"too many: {kind.value}")
        self.retry_after = retry_after
        self.kind = kind


@dataclass(frozen=True)
class Counter:
    """One limit for one subject, which `digest` is of. The time is the database's, which all hosts share."""

    limit: Limit
    digest: str

    def wait_us(self, ahead_us: dict[str, int]) -> int:
        """Return for how many microseconds there is no room, given what `look` has found."""
        return max(0, ahead_us.get(self.digest, 0) - (self.limit.count - 1) * self.limit.step_us)

    def take(self, now_us: int | None = None) -> bool:
        """Count one if there is room; `now_us` is for tests."""
        step_us = self.limit.step_us
        room_us = (self.limit.count - 2) * step_us
        free = timezone.now() + 2 * self.limit.per  # or earlier
        expires_at = connection.ops.adapt_datetimefield_value(free)
        return bool(_run(_TAKE, [self.digest, step_us, expires_at, now_us, step_us, room_us]))

    def give_back(self) -> None:
        """Count one less."""
        _run(_GIVE_BACK, [self.limit.step_us, self.digest])


@dataclass(frozen=True)
class Attempt:
    """What was counted."""

    counters: tuple[Counter, ...]

    def give_back(self) -> None:
        """Count it no more, since it was right. For the request that has taken it: later it might erase another's."""
        for counter in self.counters:
            counter.give_back()


def take(policy: Policy, request: HttpRequest, account: User | str) -> Attempt:
    """Count an attempt on an account, that of a user or of an address in the spelling that is stored.

    Raises Throttled. Not for use in a transaction: its rollback would take the count back.
    """
    counters = _counters(policy, request, account)
    if not counters:
        return Attempt(())
    _refuse_if_full(counters, policy, request, account)  # one look, which takes no lock: an attack gets no further
    attempt = Attempt(())
    for counter in counters:
        if not counter.take():  # somebody was faster
            attempt.give_back()
            _refuse_if_full(counters, policy, request, account)
            raise Throttled(timedelta(seconds=1), policy.kind)
        attempt = Attempt((*attempt.counters, counter))
    return attempt


def _refuse_if_full(counters: list[Counter], policy: Policy, request: HttpRequest, account: User | str) -> None:
    events = {counter: Counter(_EVENT, digest_of(policy, "event", counter.digest)) for counter in counters}
    ahead_us = look([counter.digest for counter in [*events, *events.values()]])
    fullest = max(counters, key=lambda counter: counter.wait_us(ahead_us))
    if wait_us := fullest.wait_us(ahead_us):
        if not events[fullest].wait_us(ahead_us) and events[fullest].take():
            record(policy.kind, request, _owner(policy, account), Outcome.REFUSED)
        raise Throttled(timedelta(microseconds=wait_us), policy.kind)


def look(digests: list[str], now_us: int | None = None) -> dict[str, int]:
    """Return how many microseconds each counter is ahead of the time; one that nobody has used is left out."""
    return dict(_run(_LOOK, [now_us, *digests], places=", ".join(["%s"] * len(digests))))


def digest_of(policy: Policy, *subject: str) -> str:
    """Return the key of a counter."""
    text = "\0".join([policy.kind.value, *subject])
    return salted_hmac("accounts.throttle", text, algorithm="sha256").hexdigest()


def _counters(policy: Policy, request: HttpRequest, account: User | str) -> list[Counter]:
    """Return what counts for this request, the narrowest first."""
    name = f"user {account.pk}" if isinstance(account, User) else f"address {account}"
    limits: list[tuple[Limit | None, tuple[str, ...]]]
    if policy.known_browser and (browser := browsers.known_to(request, account)):
        limits = [(policy.known_browser, ("browser", browser, name)), (policy.known_browsers, ("browsers", name))]
    else:
        network = network_of(
            address_of(request)
        )  # "" behind a Unix socket: then all come from one place, and none does
        limits = [
            (policy.account_and_network, ("account and network", name, network)),
            (policy.network if network else None, ("network", network)),
            (policy.account, ("account", name)),
        ]
    return [Counter(limit, digest_of(policy, *subject)) for limit, subject in limits if limit]


def _owner(policy: Policy, account: User | str) -> int | None:
    """Return whose log the refusal goes to. Where requests look nothing up (`policy.known_browser`), nobody's."""
    if isinstance(account, User):
        return account.pk
    return User.objects.filter(email=account).values_list("pk", flat=True).first() if policy.known_browser else None


# The answer ----------------------------------------------------------------------------------------------------------


class ThrottleMiddleware:
    """Answers Throttled, whichever view has raised it."""

    def __init__(self, get_response: browsers.Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Say when to try again, as a page or as JSON."""
        if not isinstance(exception, Throttled):
            return None
        seconds = math.ceil(exception.retry_after.total_seconds())
        wait = in_words(seconds)
        if request.content_type == "application/json":
            detail = _("This was too often. Try again in %(time)s.") % {"time": wait}
            response: HttpResponse = JsonResponse({"errors": {"__all__": [detail]}}, status=429)
        else:
            context = {"wait": wait, "is_login": exception.kind == Kind.LOGIN}
            response = render(request, "429.html", context, status=429)
        response["Retry-After"] = str(seconds)
        add_never_cache_headers(response)
        return response


def in_words(seconds: int) -> str:
    """Return "40 seconds", "5 minutes" or "2 hours", never less than it is."""
    if seconds <= 90:
        return ngettext("%(count)d second", "%(count)d seconds", seconds) % {"count": seconds}
    if (minutes := math.ceil(seconds / 60)) <= 90:
        return ngettext("%(count)d minute", "%(count)d minutes", minutes) % {"count": minutes}
    hours = math.ceil(seconds / 3600)
    return ngettext("%(count)d hour", "%(count)d hours", hours) % {"count": hours}


# The statements ------------------------------------------------------------------------------------------------------

_NOW = {
    "postgresql": "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000000 AS bigint)",
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000000.0 AS integer)",
}
_LATER = {"postgresql": "GREATEST", "sqlite": "MAX"}
# A counter need not survive a crash of the server, so PostgreSQL does not wait for the disk.
_QUICK = "(SELECT set_config('synchronous_commit', 'off', true)) = 'off'"

# excluded.free_at_us is now + step
_TAKE = """
    INSERT INTO accounts_throttle (digest, free_at_us, expires_at)
    SELECT %s, now + %s, %s FROM (SELECT COALESCE(CAST(%s AS bigint), {now}) AS now) AS clock WHERE {quick}
    ON CONFLICT (digest) DO UPDATE
    SET free_at_us = {later}(accounts_throttle.free_at_us + %s, excluded.free_at_us), expires_at = excluded.expires_at
    WHERE accounts_throttle.free_at_us <= excluded.free_at_us + %s
    RETURNING free_at_us"""

_LOOK = """
    SELECT digest, free_at_us - COALESCE(CAST(%s AS bigint), {now}) FROM accounts_throttle WHERE digest IN ({places})"""

_GIVE_BACK = """
    UPDATE accounts_throttle SET free_at_us = free_at_us - %s WHERE digest = %s AND {quick}
    RETURNING free_at_us"""


def _run(statement: str, parameters: list[Any], **parts: str) -> list[tuple[Any, ...]]:
    vendor = connection.vendor
    is_quick = vendor == "postgresql" and not connection.in_atomic_block  # else all of the transaction would be
    sql = statement.format(now=_NOW[vendor], later=_LATER[vendor], quick=_QUICK if is_quick else "true", **parts)
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()
