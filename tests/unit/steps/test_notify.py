"""The result of an ended job, sent to its webhook: not before the end, and until it is accepted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from farm.client import Farm, Job
from farm.engine import journal
from farm.engine.advance import claim_due_step
from farm.engine.context import Context
from farm.errors import DownloadFailed, FarmError, InvalidInput
from farm.job import Result, Video, WebhookStatus
from farm.maintenance.gc import find_garbage
from farm.maintenance.recover import Recovered, recover
from farm.net.signing import receiver_secret
from farm.registry import Registry, open_registry
from farm.registry.formats import dump
from farm.registry.webhooks import CALLS
from farm.route import MUX, NOTIFY
from farm.settings import Settings
from farm.steps.notify import notify
from farm.store import integrity, keys
from farm.store.local import LocalStore
from farm.store.memory import MemoryStore
from tests.support.attempts import FIRST, foreseeable
from tests.support.backends import ClockBackend
from tests.support.jobs import job_request
from tests.support.outputs import committed, mux_output, output_of
from tests.support.receiver import SECRET, Receiver
from tests.support.steps import acquire, commit, complete, run_step, step_context

DAY_S = 86400
NEW_SECRET = "whsec_" + "A" * 40


class Harness:
    """The context of one job, `a`, whose webhook is the receiver's."""

    def __init__(self, hook: Receiver, home: Path, **settings: Any) -> None:
        self.clock = ClockBackend()
        fields = {"home": home, "webhook_retry_delays_s": (5, 30), "keep_jobs_s": 7 * DAY_S}
        changed = Settings.model_validate({**fields, **hook.settings, **settings})
        self.ctx = Context(changed, MemoryStore(), Registry(self.clock))
        self.request = job_request(webhook=hook.url)
        journal.record_request(self.ctx, "a", self.request)
        self.registry.entries.add("a", self.request)

    @property
    def registry(self) -> Registry:
        return self.ctx.registry

    @property
    def webhook(self) -> WebhookStatus | None:
        return Job(self.ctx, "a").webhook()

    @property
    def live(self) -> list[str]:
        return self.registry.jobs.live()

    def end(self) -> None:
        result = Result(job_id="a", status="success", warnings=("ü",))
        self.registry.jobs.end("a", "success", result)

    def run_due_step(self) -> None:
        """One round of the reaper, and the worker that gets its message."""
        if "a" not in self.registry.jobs.orphaned():
            return
        step = claim_due_step(self.ctx, "a")
        if step is not None:
            run_step(self.ctx, "a", step)

    def run_due_step_after(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.run_due_step()

    def store_output(self, step_id: str, inputs: dict[str, str] | None = None) -> None:
        """Leaves in the store what the first attempt at a step leaves."""
        text = dump(committed(output_of(step_id), inputs=inputs))
        key = keys.attempt("a", step_id, FIRST, keys.OUTPUT)
        integrity.put_sealed(self.ctx.store, key, text.encode())

    def collect_garbage(self) -> None:
        for each in find_garbage(self.ctx):
            each.remove()

    def lose_broker(self) -> Recovered:
        """The broker loses everything, and the job is recovered."""
        self.ctx = replace(self.ctx, registry=open_registry("memory://"))
        ((job_id, job_keys),) = journal.stored_jobs(self.ctx.store)
        return recover(self.ctx, job_id, job_keys)


@pytest.fixture
def harness(hook: Receiver, tmp_path: Path) -> Harness:
    return Harness(hook, tmp_path)


@pytest.fixture
def ended(harness: Harness) -> Harness:
    harness.end()
    return harness


# The call


def test_the_signed_result_is_sent_and_the_job_is_closed(ended, hook):
    ended.run_due_step()
    (call,) = hook.calls
    sent = Webhook(hook.secret).verify(call.body, call.headers)
    result = ended.registry.jobs.status("a").result.model_dump(mode="json", exclude={"params"})
    assert sent == {**result, "omitted": []}
    assert call.headers["content-type"] == "application/json"
    assert ended.webhook == WebhookStatus(state="delivered", attempts=1, reason="HTTP 204")
    assert ended.live == []


@pytest.mark.parametrize("has_keys", [False, True])
def test_a_folder_is_no_affair_of_those_who_have_keys(harness, hook, tmp_path, has_keys):
    store = LocalStore(tmp_path / "store")
    harness.ctx = replace(harness.ctx, store=store)
    if has_keys:
        harness.registry.keys.create("anna")
    url = store.url("jobs/a/mux/0001-aa/a.mp4")
    video = Video(url=url, bytes=9, thumbnail_url=url)
    harness.registry.jobs.end("a", "success", Result(job_id="a", status="success", video=video))

    harness.run_due_step()

    (call,) = hook.calls
    assert (str(tmp_path) in call.body.decode()) is not has_keys


def test_while_the_secret_is_rotated_a_receiver_verifies_with_the_old_and_the_new(hook, tmp_path):
    harness = Harness(hook, tmp_path, webhook_secret=(SECRET, NEW_SECRET))
    harness.end()
    harness.run_due_step()
    (call,) = hook.calls
    for secret in (SECRET, NEW_SECRET):
        assert Webhook(receiver_secret(secret, hook.url)).verify(call.body, call.headers)


def test_no_receiver_can_forge_a_call_to_another(ended, hook):
    ended.run_due_step()
    (call,) = hook.calls
    for secret in (SECRET, receiver_secret(SECRET, "https://other.example")):
        with pytest.raises(WebhookVerificationError, match="No matching signature"):
            Webhook(secret).verify(call.body, call.headers)


def fail(ctx: Context) -> None:
    ctx.registry.jobs.fail("a", DownloadFailed("404"), at_stage="downloads_started")


def cancel(ctx: Context) -> None:
    Job(ctx, "a").cancel()


@pytest.mark.parametrize(
    ("end", "code"),
    [(fail, "E_DOWNLOAD_FAILED"), (cancel, "E_CANCELLED")],
    ids=["error", "cancelled"],
)
def test_a_failed_or_cancelled_job_calls_its_webhook_too(
    harness, hook, end: Callable[[Context], None], code
):
    end(harness.ctx)
    harness.run_due_step()
    assert json.loads(hook.calls[0].body)["error"]["code"] == code
    assert harness.webhook.state == "delivered"


def test_no_webhook_is_called_before_the_end(harness, hook):
    assert run_step(harness.ctx, "a", NOTIFY) is None
    assert (hook.calls, harness.webhook) == ([], None)
    assert harness.registry.steps.attempts("a", NOTIFY.id) == 0


def test_the_last_step_is_followed_by_the_call(harness):
    complete(harness.registry, "embed")
    assert run_step(harness.ctx, "a", MUX, step_function=lambda _: lambda _: mux_output()) == NOTIFY
    assert claim_due_step(harness.ctx, "a") is None, "its message is sent once"


def test_a_job_without_a_webhook_is_closed_at_its_end(harness):
    harness.registry.entries.add("b", harness.request.model_copy(update={"webhook": None}))
    Job(harness.ctx, "b").cancel()
    assert claim_due_step(harness.ctx, "b") is None
    assert (harness.live, Job(harness.ctx, "b").webhook()) == (["a"], None)


def test_the_end_is_stored_before_the_webhook_is_called(ended, hook, monkeypatch):
    def refuse(*_: Any) -> None:
        raise FarmError("the disk is full")

    with monkeypatch.context() as full:
        full.setattr(ended.ctx.store, "put", refuse)
        ended.run_due_step()
    assert (hook.calls, ended.live) == ([], ["a"])
    ended.run_due_step()
    assert len(hook.calls) == 1


# Retries


def test_a_failing_receiver_is_called_again_with_the_same_id_and_a_new_time(ended, hook):
    hook.answers = [500, 302]
    ended.run_due_step()
    assert ended.webhook == WebhookStatus(state="pending", attempts=1)
    ended.run_due_step_after(4)
    assert len(hook.calls) == 1
    ended.run_due_step_after(2)
    ended.run_due_step_after(31)
    assert hook.ids() == ["msg_a"] * 3
    assert [call.body for call in hook.calls] == [hook.calls[0].body] * 3
    times = [int(call.headers["webhook-timestamp"]) for call in hook.calls]
    assert times[0] + 5 <= times[1] <= times[2] - 30
    assert (ended.webhook.state, ended.webhook.attempts, ended.live) == (
        "delivered",
        3,
        [],
    )


def test_a_call_has_the_time_of_its_receiver_though_the_farms_clock_is_ahead(ended, hook):
    ended.clock.ahead_s = 7200
    ended.run_due_step()
    (call,) = hook.calls
    assert Webhook(hook.secret).verify(call.body, call.headers)


def test_the_call_is_given_up_after_the_last_retry(ended, hook, caplog):
    hook.then = 500
    ended.run_due_step()
    ended.run_due_step_after(6)
    assert ended.live == ["a"]
    with caplog.at_level("INFO", logger="farm"):
        ended.run_due_step_after(31)
    assert ended.webhook == WebhookStatus(state="failed", attempts=3, reason="HTTP 500")
    logged = [(record.msg, record.levelname) for record in caplog.records]
    assert ("webhook_failed", "WARNING") in logged
    ended.run_due_step_after(DAY_S)
    assert (len(hook.calls), ended.live) == (3, [])


def test_a_receiver_that_is_gone_is_not_called_again(ended, hook):
    hook.answers = [410]
    ended.run_due_step()
    assert ended.webhook == WebhookStatus(state="failed", attempts=1, reason="HTTP 410")
    assert ended.live == []


def test_a_receiver_that_never_answers_does_not_change_the_jobs_end(hook, tmp_path):
    harness = Harness(hook, tmp_path, webhook_timeout_s=0.2)
    hook.answering.clear()
    harness.end()
    before = harness.registry.jobs.status("a")
    for _ in range(3):
        harness.run_due_step_after(31)
    assert harness.registry.jobs.status("a") == before
    assert harness.webhook.state == "failed"
    assert harness.webhook.reason.startswith("the server did not respond")


def test_the_private_network_is_never_called(hook, tmp_path):
    harness = Harness(hook, tmp_path, fetch_allow=())
    harness.end()
    for _ in range(3):
        harness.run_due_step_after(31)
    assert hook.calls == []
    assert "resolves to a non-public address" in harness.webhook.reason


def test_a_worker_without_the_secret_leaves_the_call_to_a_later_one(hook, tmp_path):
    harness = Harness(hook, tmp_path, webhook_secret=())
    harness.end()
    harness.run_due_step()
    assert (hook.calls, harness.webhook.state) == ([], "pending")
    settings = harness.ctx.settings.model_copy(update={"webhook_secret": (SECRET,)})
    harness.ctx = replace(harness.ctx, settings=settings)
    harness.run_due_step_after(6)
    assert harness.webhook.state == "delivered"


def test_a_call_of_a_job_without_a_webhook_is_not_blamed_on_the_secret(ended, tmp_path):
    with pytest.raises(LookupError, match="job a has no webhook"):
        notify(step_context(ended.ctx, NOTIFY, scratch=tmp_path, request=job_request()))


def test_the_call_of_a_worker_that_died_is_repeated_after_its_lease(ended, hook):
    step = claim_due_step(ended.ctx, "a")
    acquire(ended.registry, step.id, lease_s=15)
    ended.run_due_step_after(14)
    assert hook.calls == []
    ended.run_due_step_after(2)
    assert (hook.ids(), ended.webhook.attempts) == (["msg_a"], 2)


def test_workers_may_die_during_the_call_as_often_as_a_receiver_may_fail(ended, hook):
    for _ in range(3):
        acquire(ended.registry, NOTIFY.id, lease_s=0)
    ended.run_due_step()
    assert hook.calls == []
    reason = "the last attempt lost its worker"
    assert ended.webhook == WebhookStatus(state="failed", attempts=4, reason=reason)


def test_a_message_that_comes_twice_calls_once(ended, hook):
    ended.run_due_step()
    assert run_step(ended.ctx, "a", NOTIFY) is None
    assert len(hook.calls) == 1


# The cap of calls to one host


def test_a_call_beyond_the_cap_of_its_host_is_made_later_and_not_counted_before(hook, tmp_path):
    # Given a host that may be called once a minute, and was called for another job
    harness = Harness(hook, tmp_path, webhook_calls_per_minute=1)
    assert harness.registry.webhooks.take_call("127.0.0.1", per_minute=1) == 0
    harness.end()
    # When the call is due, then it waits for a minute
    harness.run_due_step()
    assert (hook.calls, harness.live) == ([], ["a"])
    assert harness.webhook == WebhookStatus(state="pending", attempts=0)
    harness.run_due_step_after(59)
    assert hook.calls == []
    harness.run_due_step_after(2)
    assert harness.webhook == WebhookStatus(state="delivered", attempts=1, reason="HTTP 204")


def test_a_call_that_waits_for_its_host_takes_no_try_from_the_receiver(hook, tmp_path):
    harness = Harness(hook, tmp_path, webhook_calls_per_minute=1)
    harness.end()
    hook.then = 500
    for _ in range(20):
        harness.run_due_step_after(45)
    assert (len(hook.calls), harness.webhook.attempts) == (3, 3)


def test_other_hosts_have_caps_of_their_own(hook, tmp_path):
    harness = Harness(hook, tmp_path, webhook_calls_per_minute=1)
    harness.registry.webhooks.take_call("other.example", per_minute=1)
    harness.end()
    harness.run_due_step()
    assert harness.webhook.state == "delivered"


# Recovery and garbage collection


def test_a_pending_call_is_made_after_the_broker_lost_everything(ended, hook):
    hook.answers = [500]
    ended.run_due_step()
    found = ended.lose_broker()
    assert (found.outcome, found.reason) == ("already_ended", "success")
    assert (found.step, ended.live) == (NOTIFY, ["a"])
    run_step(ended.ctx, "a", found.step)
    assert hook.ids() == ["msg_a", "msg_a"]
    assert (ended.webhook.state, ended.live) == ("delivered", [])


def test_a_complete_video_whose_end_was_not_stored_is_called_after_a_recovery(harness, hook):
    harness.store_output(MUX.id)
    found = harness.lose_broker()
    assert (found.outcome, found.step) == ("already_ended", NOTIFY)
    run_step(harness.ctx, "a", found.step)
    assert hook.ids() == ["msg_a"]


def test_a_worker_from_before_a_recovery_cannot_commit_its_call(ended):
    claim_due_step(ended.ctx, "a")
    lease = acquire(ended.registry, NOTIFY.id)
    assert ended.lose_broker().step == NOTIFY
    acquire(ended.registry, NOTIFY.id)
    assert not commit(ended.registry, lease)


def test_a_delivered_call_is_not_repeated_after_a_recovery(ended, hook, monkeypatch):
    ended.run_due_step()
    before = ended.webhook
    monkeypatch.setattr(ended.ctx.store, "put", None)  # nothing is stored a second time
    found = ended.lose_broker()
    assert (found.outcome, found.step, ended.live) == ("already_ended", None, [])
    assert (len(hook.calls), ended.webhook) == (1, before)


def test_a_delivered_call_does_not_hide_the_other_outputs_from_a_recovery(ended):
    ended.store_output("download")
    ended.store_output(MUX.id, inputs={"download": FIRST})
    ended.run_due_step()
    assert ended.lose_broker().kept == 2
    for step_id in ("download", "mux", "notify"):
        assert ended.registry.steps.committed("a", step_id)


def test_a_delivered_call_is_still_known_once_the_intermediates_are_removed(ended):
    ended.run_due_step()
    ended.clock.advance(DAY_S)
    ended.collect_garbage()
    assert [foreseeable(key) for key in ended.ctx.store.keys("jobs/")] == [
        keys.end("a"),
        keys.attempt("a", "notify", FIRST, keys.OUTPUT),
        keys.request("a"),
    ]
    assert ended.lose_broker().step is None


def test_a_job_is_not_removed_while_its_call_is_pending(ended, hook):
    hook.then = 500
    ended.run_due_step()
    ended.clock.advance(99 * DAY_S)
    assert list(find_garbage(ended.ctx)) == []


def test_an_expired_job_leaves_nothing_of_its_call(ended):
    ended.run_due_step()
    ended.clock.advance(7 * DAY_S)
    ended.collect_garbage()
    assert list(ended.ctx.store.keys("")) == []
    assert list(ended.clock.texts) == [CALLS], "counts calls by host, whatever their jobs"


# Refused

NO_SECRET = r"^webhook: webhooks are disabled on this farm \(FARM_WEBHOOK_SECRET is not set\)"


def test_a_farm_without_a_secret_refuses_a_webhook_before_the_job_is_entered(harness, tmp_path):
    farm = Farm(settings=Settings(home=tmp_path, broker_url="redis://127.0.0.1:1/0"))
    with pytest.raises(InvalidInput, match=NO_SECRET):
        farm.submit(harness.request)


def test_a_worker_without_a_secret_refuses_a_webhook_too(hook, tmp_path):
    harness = Harness(hook, tmp_path, webhook_secret=())
    with pytest.raises(InvalidInput, match=NO_SECRET):
        run_step(harness.ctx, "a", claim_due_step(harness.ctx, "a"))
    assert harness.registry.jobs.status("a").state == "error"


def test_an_inline_farm_refuses_a_webhook(harness):
    farm = Farm("inline://", settings=harness.ctx.settings)
    with pytest.raises(InvalidInput, match=r"^webhook: not supported for inline jobs"):
        farm.submit(harness.request)
