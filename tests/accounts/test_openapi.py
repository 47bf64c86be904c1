"""docs/openapi.yaml says what the site answers: Schemathesis makes up requests from it, and more."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
import schemathesis
import yaml
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accounts.models import Throttle, User
from tests.conftest import PASSWORD
from tests.processes import ROOT
from tests.test_access import WITHOUT_CSRF_TOKEN

FILE = ROOT / "docs" / "openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(FILE.read_text())
CHECKS = [
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]

schema = schemathesis.openapi.from_path(str(FILE))
schema.app = get_wsgi_application()


@pytest.fixture
def kept_connection():
    """Leave the connection of the test open between requests, as Django's own test client does."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@schema.parametrize()
@settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_documented(case, alice, kept_connection):
    Throttle.objects.all().delete()
    case.call_and_validate(checks=CHECKS)


def test_every_address_that_takes_json_is_documented_and_no_other():
    assert sorted(DOCUMENT["paths"]) == sorted(WITHOUT_CSRF_TOKEN)
    assert {method for path in DOCUMENT["paths"].values() for method in path} == {"post"}


SECRET = "a wrong lamp by the sea"
ANSWERS = [
    ("/accounts/signup/", {"email": "new@example.org", "password": PASSWORD}, 202),
    ("/accounts/signup/", {"email": "alice@example.org", "password": PASSWORD}, 202),
    ("/accounts/signup/", {"email": "x"}, 400),
    ("/accounts/verify/resend/", {"email": "alice@example.org"}, 202),
    ("/accounts/password-reset/", {"email": "nobody@example.org"}, 202),
    ("/accounts/login/", {"email": "alice@example.org", "password": PASSWORD}, 200),
    ("/accounts/login/", {"email": "alice@example.org", "password": SECRET}, 401),
    ("/accounts/login/", {"email": "alice@example.org"}, 400),
    ("/accounts/login/second-factor/", {"code": "123456"}, 401),
    ("/accounts/logout/", {}, 200),
]


@pytest.mark.parametrize(("path", "body", "status"), ANSWERS)
def test_an_answer_of_each_kind_is_as_documented(client, alice, path, body, status):
    response = client.post(path, json.dumps(body), content_type="application/json")
    assert response.status_code == status
    assert str(status) in DOCUMENT["paths"][path]["post"]["responses"]
    operation = schema[path]["post"]
    operation.Case(body=body).validate_response(to_requests(response), checks=CHECKS)


def test_too_many_attempts_are_answered_as_documented(client, alice):
    body = {"email": alice.email, "password": SECRET}
    answers = [client.post("/accounts/login/", json.dumps(body), content_type="application/json") for _n in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    schema["/accounts/login/"]["post"].Case(body=body).validate_response(to_requests(answers[-1]), checks=CHECKS)


def test_what_is_not_documented_is_found(client, alice):
    response = client.post("/accounts/logout/", "{}", content_type="application/json")
    response.content = b'{"status": "something else"}'
    with pytest.raises(BaseException, match=r"something else|const|logged-out"):
        schema["/accounts/logout/"]["post"].Case(body={}).validate_response(to_requests(response), checks=CHECKS)
    assert User.objects.count() == 1


def to_requests(response: Any) -> Any:
    """Return a response of Django's test client as Schemathesis wants it."""
    prepared = requests.Request("POST", f"http://testserver{response.request['PATH_INFO']}").prepare()
    headers = {name: [value] for name, value in response.headers.items()}
    return Response(
        status_code=response.status_code,
        headers=headers,
        content=response.content,
        request=prepared,
        elapsed=0.0,
        verify=False,
        message=response.reason_phrase,
    )
