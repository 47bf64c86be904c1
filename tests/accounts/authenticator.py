"""What people have in their pockets, for tests: an authenticator app, recovery codes, a device with a passkey."""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url

from accounts.factors import recovery, totp
from accounts.models import User

base64url, unbase64url = bytes_to_base64url, base64url_to_bytes
PRESENT, VERIFIED, ATTESTED = 1, 4, 64
"""Flags of what a device says: somebody touched it, it knows who, and here is a new key."""

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def code_now(secret: str = SECRET, later: int = 0) -> str:
    """Return the code of now, or of some steps later."""
    return totp.code_at(secret, int(time.time()) // totp.PERIOD + later)


def give_app(user: User, secret: str = SECRET) -> None:
    """Let the user have an app none of whose codes was used."""
    totp.store(user, secret, 0)


def give_codes(user: User) -> list[str]:
    """Let the user have recovery codes."""
    return recovery.make(user)


class Device:
    """A device that makes passkeys and signs with them, as WebAuthn says, without attestation."""

    def __init__(self, origin: str = "https://testserver", host: str = "testserver", counts: bool = True) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.credential_id = os.urandom(32)
        self.origin, self.host = origin, host
        self.sign_count = 1 if counts else 0
        self.counts = counts
        self.user_handle: str | None = None

    def create(self, options: dict[str, Any], flags: int = PRESENT | VERIFIED, **changes: Any) -> str:
        """Return what a browser sends of a new passkey."""
        self.user_handle = options["user"]["id"]
        numbers = self.key.public_key().public_numbers()
        cose = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
        credential = bytes(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id + cbor2.dumps(cose)
        data = self._data(flags | ATTESTED) + credential
        return self._answer(
            clientDataJSON=self._client_data("webauthn.create", options, **changes),
            attestationObject=base64url(cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})),
            transports=["internal", "telepathy"],
        )

    def get(self, options: dict[str, Any], flags: int = PRESENT | VERIFIED, **changes: Any) -> str:
        """Return what a browser sends of a passkey that signs the challenge."""
        self.sign_count += self.counts
        client_data = self._client_data("webauthn.get", options, **changes)
        data = self._data(flags)
        signed = data + hashlib.sha256(unbase64url(client_data)).digest()
        return self._answer(
            clientDataJSON=client_data,
            authenticatorData=base64url(data),
            signature=base64url(self.key.sign(signed, ec.ECDSA(hashes.SHA256()))),
            userHandle=self.user_handle,
        )

    def _data(self, flags: int) -> bytes:
        return hashlib.sha256(self.host.encode()).digest() + bytes([flags]) + self.sign_count.to_bytes(4, "big")

    def _client_data(self, kind: str, options: dict[str, Any], **changes: Any) -> str:
        data = {"type": kind, "challenge": options["challenge"], "origin": self.origin, "crossOrigin": False}
        return base64url(json.dumps(data | changes).encode())

    def _answer(self, **response: Any) -> str:
        name = base64url(self.credential_id)
        return json.dumps({"id": name, "rawId": name, "type": "public-key", "response": response})
