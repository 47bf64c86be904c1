"""Passkeys: key pairs in the user's device, as WebAuthn has them. The protocol is the work of `webauthn`.

A ceremony has two halves. `*_options` make a challenge, which stays in the session, for one purpose. `register` and
`authenticate` take it out again, so it counts once, and check what the browser has sent: against the challenge, the
host of SITE_URL and, when it logs in, the key in the row. A passkey whose device has checked who holds it, by a
finger, a face or a PIN, is two factors in one: it may log in without a password.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import logging
import re
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import webauthn
from django.conf import settings
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from accounts.models import Passkey, User

ADD, LOG_IN, SECOND_STEP, REAUTHENTICATE = "add", "log-in", "second-step", "reauthenticate"
"""The purposes of a challenge."""

LIFETIME = timedelta(minutes=5)
MOST = 20
"""Passkeys of one user."""

_CHALLENGE = "passkey_challenge"
_LONGEST_ID = 1364  # characters in base64url of the 1023 bytes that WebAuthn allows
_TRANSPORTS = {transport.value for transport in AuthenticatorTransport}

logger = logging.getLogger(__name__)


class PasskeyError(Exception):
    """What the browser has sent proves nothing."""


class _Challenge(NamedTuple):
    value: bytes
    made_at: datetime


def are_possible() -> bool:
    """Return whether browsers do it for this site: it has a name, not an address, and https unless it is localhost."""
    site = urlsplit(settings.SITE_URL)
    host = site.hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return site.scheme == "https" or host == "localhost" or host.endswith(".localhost")
    return False


def registration_options(request: HttpRequest, user: User) -> str:
    """Return what the browser needs for a new passkey, as JSON."""
    options = webauthn.generate_registration_options(
        rp_id=_host(),
        rp_name=settings.SITE_NAME,
        user_id=_handle(user.pk),
        user_name=user.email,
        user_display_name=user.get_full_name(),
        challenge=_begin(request, ADD),
        timeout=_milliseconds(LIFETIME),
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.PREFERRED, user_verification=UserVerificationRequirement.PREFERRED
        ),
        exclude_credentials=_descriptors(user),
    )
    return webauthn.options_to_json(options)


def authentication_options(request: HttpRequest, purpose: str, user: User | None = None) -> str:
    """Return what the browser needs to show a passkey, as JSON: one of the user's, or for LOG_IN any that it has."""
    is_alone = purpose != SECOND_STEP  # nothing else is asked for
    options = webauthn.generate_authentication_options(
        rp_id=_host(),
        challenge=_begin(request, purpose),
        timeout=_milliseconds(LIFETIME),
        allow_credentials=_descriptors(user) if user else [],
        user_verification=UserVerificationRequirement.REQUIRED if is_alone else UserVerificationRequirement.PREFERRED,
    )
    return webauthn.options_to_json(options)


def register(request: HttpRequest, user: User, name: str, credential: str) -> Passkey:
    """Return a new passkey of the user, not stored yet. Raises PasskeyError."""
    challenge = _take(request, ADD)
    data = _parse(credential)
    try:
        verified = webauthn.verify_registration_response(
            credential=data,
            expected_challenge=challenge.value,
            expected_rp_id=_host(),
            expected_origin=_origin(),
        )
    except Exception as error:  # the parsers in it let errors of all kinds through
        raise _failed(error) from None
    credential_id = bytes_to_base64url(verified.credential_id)
    if len(credential_id) > _LONGEST_ID or Passkey.objects.filter(credential_id=credential_id).exists():
        raise PasskeyError("This passkey cannot be added.")
    transports = data["response"].get("transports")
    ways = transports if isinstance(transports, list) else []
    return Passkey(
        user=user,
        name=name,
        credential_id=credential_id,
        public_key=verified.credential_public_key,
        sign_count=verified.sign_count,
        transports=[each for each in ways if isinstance(each, str) and each in _TRANSPORTS],
        is_backed_up=verified.credential_backed_up,
    )


def authenticate(request: HttpRequest, purpose: str, credential: str, user: User | None = None) -> User:
    """Return whose passkey the browser has shown; if `user` is given, it must be theirs. Raises PasskeyError.

    Unless it is the second step after a password, the device must have checked who holds it. The same answer twice at
    once: one of them is refused.
    """
    challenge = _take(request, purpose)
    data = _parse(credential)
    passkey = _find(data, user)
    try:
        verified = webauthn.verify_authentication_response(
            credential=data,
            expected_challenge=challenge.value,
            expected_rp_id=_host(),
            expected_origin=_origin(),
            credential_public_key=bytes(passkey.public_key),
            credential_current_sign_count=passkey.sign_count,
            require_user_verification=purpose != SECOND_STEP,
        )
        handle = data["response"].get("userHandle")
        if handle and base64url_to_bytes(handle) != _handle(passkey.user_id):
            raise PasskeyError("The passkey was made for another user.")
    except Exception as error:  # as above
        raise _failed(error) from None
    unused = Passkey.objects.filter(
        Q(last_used_at=None) | Q(last_used_at__lt=challenge.made_at), pk=passkey.pk, sign_count=passkey.sign_count
    )
    used = {"sign_count": verified.new_sign_count, "is_backed_up": verified.credential_backed_up}
    if not unused.update(last_used_at=timezone.now(), **used):
        raise PasskeyError("The passkey has answered this challenge before.")
    return passkey.user


def _find(data: dict[str, Any], user: User | None) -> Passkey:
    credential_id = data.get("id")
    if not isinstance(credential_id, str) or not re.fullmatch(f"[A-Za-z0-9_-]{{1,{_LONGEST_ID}}}", credential_id):
        raise PasskeyError("There is no id of a passkey.")
    rows = Passkey.objects.filter(credential_id=credential_id, user__is_active=True).select_related("user")
    passkey = (rows if user is None else rows.filter(user=user)).first()
    if passkey is None:
        raise PasskeyError("There is no such passkey.")
    return passkey


def _parse(credential: str) -> dict[str, Any]:
    try:
        data = json.loads(credential)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or not isinstance(data.get("response"), dict):
        raise PasskeyError("This is not what a browser sends.")
    return data


def _failed(error: Exception) -> PasskeyError:
    logger.info("A passkey was refused: %r", str(error))  # it may quote what was sent, line breaks included
    return PasskeyError(str(error))


def _begin(request: HttpRequest, purpose: str) -> bytes:
    challenge = secrets.token_bytes(32)
    request.session[_CHALLENGE] = [purpose, bytes_to_base64url(challenge), time.time()]
    return challenge


def _take(request: HttpRequest, purpose: str) -> _Challenge:
    """Take the challenge out of the session. Raises PasskeyError if it is of another purpose or too old."""
    stored, challenge, made_at = request.session.pop(_CHALLENGE, ("", "", 0.0))
    if stored != purpose or not 0 <= time.time() - made_at < LIFETIME.total_seconds():
        raise PasskeyError("There is no challenge.")
    return _Challenge(base64url_to_bytes(challenge), datetime.fromtimestamp(made_at, UTC))


def _descriptors(user: User) -> list[PublicKeyCredentialDescriptor]:
    return [
        PublicKeyCredentialDescriptor(
            id=base64url_to_bytes(passkey.credential_id),
            transports=[AuthenticatorTransport(each) for each in passkey.transports if each in _TRANSPORTS],
        )
        for passkey in Passkey.objects.filter(user=user).order_by("pk")
    ]


def _handle(user_id: int) -> bytes:
    """Return what a device knows the user by, which says nothing about them."""
    return hashlib.sha256(f"accounts.factors.passkeys {user_id}".encode()).digest()


def _host() -> str:
    return urlsplit(settings.SITE_URL).hostname or ""


def _origin() -> str:
    """Return SITE_URL as a browser writes it."""
    site = urlsplit(settings.SITE_URL)
    port = "" if site.port in (None, {"http": 80, "https": 443}[site.scheme]) else f":{site.port}"
    return f"{site.scheme}://{site.hostname}{port}"


def _milliseconds(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
