"""What accounts do in the background. Each task is given ids, looks at the present state, and may run twice."""

from typing import Any

from django_tasks import TaskContext, task

from accounts import emails
from accounts.models import User
from tasks.backoff import exponential
from tasks.exceptions import Discard

MAIL: dict[str, Any] = {
    "queue_name": "mail",
    "priority": 10,
    "max_attempts": 12,  # a mail server may be away for an hour and a quarter on average, twice that at most
    "backoff": exponential(base=5, cap=3600),
    "timeout": 60,
}


@task(takes_context=True, **MAIL)
def send_welcome_email(context: TaskContext, user_id: int) -> None:
    """Welcome a new user, with the link that verifies the address; nothing to do once it is verified."""
    user = _user(user_id)
    if user.email_verified_at is None:
        emails.welcome(user, context.task_result.id).send()


@task(takes_context=True, **MAIL)
def send_already_registered_email(context: TaskContext, user_id: int) -> None:
    """Answer a signup with a known address. If it was never verified, the link is what its owner needs."""
    user = _user(user_id)
    mail = emails.already_registered if user.email_verified_at else emails.welcome
    mail(user, context.task_result.id).send()


def _user(user_id: int) -> User:
    user = User.objects.filter(pk=user_id, is_active=True).first()
    if user is None:
        raise Discard("The account is gone or was switched off.")
    return user
