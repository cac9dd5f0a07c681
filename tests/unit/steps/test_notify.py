"""The end of a job told to its webhook: once it is taken, or given up, and never a word before the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from farm.client import Farm, Job
from farm.engine import journal
from farm.engine.advance import claim_due_step
from tests.support.steps import run_step
from farm.engine.context import Context
from farm.route import LAST, NOTIFY
from farm.errors import DownloadFailed, FarmError, InvalidInput
from farm.job import JobRequest, Notice, Result
from farm.maintenance.gc import find_garbage
from farm.maintenance.recover import recover
from farm.registry import Registry, open_registry
from farm.registry.memory import MemoryBackend
from farm.settings import Settings
from farm.store import keys
from farm.store.memory import MemoryStore
from tests.support.receiver import SECRET, Receiver

DAY_S = 86400


class Clock(MemoryBackend):
    """A ledger whose clock a test can put forward."""

    remaining_gpu_s = 0.0

    def now(self) -> float:
        return super().now() + self.remaining_gpu_s


class Harness:
    """A place with one job, `a`, whose webhook is the receiver's."""

    def __init__(self, hook: Receiver, home: Path, **settings: Any) -> None:
        self.clock, self.hook = Clock(), hook
        given = {"home": home, "webhook_pauses_s": (5, 30), "keep_jobs_s": 7 * DAY_S, **hook.settings, **settings}
        self.context = Context(Settings.model_validate(given), MemoryStore(), Registry(self.clock))
        request = {
            "prompt": "x",
            "cond_video": "https://example.org/face.png",
            "cond_audio": {"person1": "https://example.org/voice.wav"},
        }
        self.request = JobRequest.parse({**request, "webhook": hook.url})
        journal.enter(self.context, "a", self.request)
        self.context.registry.jobs.add("a", self.request)

    def end(self) -> None:
        self.context.registry.jobs.end("a", "success", Result(job_id="a", status="success", warnings=("ü",)))

    def round(self) -> None:
        """What the reaper and a worker do: whatever is due, once."""
        if "a" in self.context.registry.jobs.orphaned() and (step := claim_due_step(self.context, "a")):
            run_step(self.context, "a", step)

    def later(self, seconds: float) -> None:
        self.clock.remaining_gpu_s += seconds
        self.round()

    @property
    def notice(self) -> Notice | None:
        return Job(self.context, "a").webhook()

    @property
    def live(self) -> list[str]:
        return self.context.registry.jobs.live()


@pytest.fixture
def harness(hook: Receiver, tmp_path: Path) -> Harness:
    return Harness(hook, tmp_path)


@pytest.fixture
def ended(harness: Harness) -> Harness:
    harness.end()
    return harness


# What is told


def test_the_result_is_told_signed_and_the_job_is_closed(ended, hook):
    ended.round()
    (call,) = hook.calls
    told = Webhook(SECRET).verify(call.body, call.headers)
    assert told == ended.context.registry.jobs.status("a").result.model_dump(mode="json")
    assert call.headers["content-type"] == "application/json"
    assert ended.notice == Notice(state="delivered", tries=1, reason="answered 204")
    assert ended.live == []


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda ctx: ctx.registry.jobs.fail("a", DownloadFailed("404"), at_stage="x"), "E_DOWNLOAD_FAILED"),
        (lambda ctx: Job(ctx, "a").cancel(), "E_CANCELLED"),
    ],
    ids=["error", "cancelled"],
)
def test_other_ends_are_told_too(harness, hook, end: Callable[[Context], Any], code):
    end(harness.context)
    harness.round()
    assert json.loads(hook.calls[0].body)["error"]["code"] == code
    assert harness.notice.state == "delivered"


def test_nothing_is_told_before_the_end(harness, hook):
    assert run_step(harness.context, "a", NOTIFY) is None
    assert (hook.calls, harness.notice) == ([], None)
    assert harness.context.registry.steps.attempts("a", NOTIFY.id) == 0


def test_the_last_step_hands_the_call_on(harness):
    for step_id in ("embed", LAST.id):
        lease = harness.context.registry.steps.acquire("a", step_id, lease_s=60, max_attempts=3)
        result = Result(job_id="a", status="success").model_dump(mode="json")
        harness.context.registry.steps.commit(lease, {"chunks": 0, "attempt": 1, "timings": {}, "result": result})
    assert run_step(harness.context, "a", LAST) == NOTIFY
    assert claim_due_step(harness.context, "a") is None, "its message is one caller's to send"


def test_a_job_without_a_webhook_is_closed_at_its_end(hook, harness):
    without = harness.request.model_copy(update={"webhook": None})
    harness.context.registry.jobs.add("b", without)
    Job(harness.context, "b").cancel()
    assert claim_due_step(harness.context, "b") is None
    assert (harness.live, Job(harness.context, "b").webhook()) == (["a"], None)


def test_the_end_is_in_the_store_before_it_is_told(ended, hook, monkeypatch):
    def refuse(*_: Any) -> None:
        raise FarmError("the disk is full")

    with monkeypatch.context() as full:
        full.setattr(ended.context.store, "put", refuse)
        ended.round()
    assert (hook.calls, ended.live) == ([], ["a"])
    ended.round()
    assert len(hook.calls) == 1


# Again


def test_a_receiver_that_fails_is_called_again_with_the_same_id_and_a_new_time(ended, hook):
    hook.answers = [500, 302]
    ended.round()
    assert ended.notice == Notice(state="waiting", tries=1)
    ended.later(4)
    assert len(hook.calls) == 1
    ended.later(2)
    ended.later(31)
    assert hook.ids() == ["msg_a"] * 3
    assert [call.body for call in hook.calls] == [hook.calls[0].body] * 3
    times = [int(call.headers["webhook-timestamp"]) for call in hook.calls]
    assert times[0] + 5 <= times[1] <= times[2] - 30
    assert (ended.notice.state, ended.notice.tries, ended.live) == ("delivered", 3, [])


def test_a_call_is_given_up_after_the_last_pause(ended, hook, caplog):
    hook.then = 500
    ended.round()
    ended.later(6)
    assert ended.live == ["a"]
    with caplog.at_level("INFO", logger="farm"):
        ended.later(31)
    assert ended.notice == Notice(state="given up", tries=3, reason="answered 500")
    assert ("webhook_given_up", "WARNING") in [(record.msg, record.levelname) for record in caplog.records]
    ended.later(DAY_S)
    assert (len(hook.calls), ended.live) == (3, [])


def test_a_receiver_that_is_gone_is_not_called_again(ended, hook):
    hook.answers = [410]
    ended.round()
    assert ended.notice == Notice(state="given up", tries=1, reason="answered 410")
    assert ended.live == []


def test_a_receiver_that_never_answers_changes_nothing_of_the_jobs_end(hook, tmp_path):
    harness = Harness(hook, tmp_path, webhook_timeout_s=0.2)
    hook.silent_s = 2
    harness.end()
    before = harness.context.registry.jobs.status("a")
    for _ in range(3):
        harness.later(31)
    assert harness.context.registry.jobs.status("a") == before
    assert harness.notice.state == "given up"
    assert harness.notice.reason.startswith("timed out")


def test_the_private_network_is_never_called(hook, tmp_path):
    harness = Harness(hook, tmp_path, fetch_allow=())
    harness.end()
    for _ in range(3):
        harness.later(31)
    assert hook.calls == []
    assert "not at a public address" in harness.notice.reason


def test_a_worker_without_the_secret_leaves_it_to_a_later_one(hook, tmp_path):
    harness = Harness(hook, tmp_path, webhook_secret=())
    harness.end()
    harness.round()
    assert (hook.calls, harness.notice.state) == ([], "waiting")
    knowing = harness.context.settings.model_copy(update={"webhook_secret": (SECRET,)})
    harness.context = Context(knowing, harness.context.store, harness.context.registry)
    harness.later(6)
    assert harness.notice.state == "delivered"


def test_a_worker_that_dies_behind_its_call_lets_another_call_again(ended, hook):
    step = claim_due_step(ended.context, "a")
    ended.context.registry.steps.acquire("a", step.id, lease_s=15, max_attempts=9)
    ended.later(14)
    assert hook.calls == []
    ended.later(2)
    assert (hook.ids(), ended.notice.tries) == (["msg_a"], 2)


def test_workers_that_die_again_and_again_do_so_no_more_often_than_a_receiver_may_fail(ended, hook):
    for _ in range(3):
        ended.context.registry.steps.acquire("a", NOTIFY.id, lease_s=0, max_attempts=9)
    ended.round()
    assert hook.calls == []
    assert ended.notice == Notice(state="given up", tries=4, reason="the workers died that should call it")


def test_a_message_that_comes_twice_calls_once(ended, hook):
    ended.round()
    assert run_step(ended.context, "a", NOTIFY) is None
    assert len(hook.calls) == 1


# Lost and swept


def lose(harness: Harness) -> Any:
    """The broker loses everything, and the job is recovered."""
    registry = open_registry("memory://")
    harness.context = Context(harness.context.settings, harness.context.store, registry)
    ((job_id, names),) = journal.jobs(harness.context.store)
    return recover(harness.context, job_id, names)


def test_a_call_that_was_still_to_come_is_made_after_the_broker_lost_everything(ended, hook):
    hook.answers = [500]
    ended.round()
    found = lose(ended)
    assert (found.outcome, found.reason, found.step, ended.live) == ("had ended", "success", NOTIFY, ["a"])
    run_step(ended.context, "a", found.step)
    assert hook.ids() == ["msg_a", "msg_a"]
    assert (ended.notice.state, ended.live) == ("delivered", [])


def test_a_video_whose_end_nobody_wrote_down_is_told_after_the_broker_lost_everything(harness, hook):
    made = {"attempt": 1, "made_of": {}, "timings": {}, "result": {"job_id": "a", "status": "success"}}
    harness.context.store.put(keys.attempt("a", LAST.id, 1, keys.OUTPUT), json.dumps(made).encode())
    found = lose(harness)
    assert (found.outcome, found.step) == ("had ended", NOTIFY)
    run_step(harness.context, "a", found.step)
    assert hook.ids() == ["msg_a"]


def test_a_worker_of_before_the_loss_cannot_say_that_it_was_called(ended):
    claim_due_step(ended.context, "a")
    lease = ended.context.registry.steps.acquire("a", NOTIFY.id, lease_s=60, max_attempts=9)
    assert lose(ended).step == NOTIFY
    ended.context.registry.steps.acquire("a", NOTIFY.id, lease_s=60, max_attempts=9)
    assert not ended.context.registry.steps.commit(lease, {"outcome": "delivered"})


def test_what_was_told_is_not_told_again_after_the_broker_lost_everything(ended, hook, monkeypatch):
    ended.round()
    before = ended.notice
    monkeypatch.setattr(ended.context.store, "put", None)  # nothing has to be written down once more
    found = lose(ended)
    assert (found.outcome, found.step, ended.live) == ("had ended", None, [])
    assert (len(hook.calls), ended.notice) == (1, before)


def test_what_was_told_hides_nothing_else_that_was_made(ended):
    for step_id, inputs in (("download", {}), (LAST.id, {"download": 1})):
        output = {"attempt": 1, "made_of": inputs, "timings": {}}
        ended.context.store.put(keys.attempt("a", step_id, 1, keys.OUTPUT), json.dumps(output).encode())
    ended.round()
    assert lose(ended).kept == 2
    assert all(ended.context.registry.steps.committed("a", name) for name in ("download", "mux", "notify"))


def test_what_was_told_is_still_known_when_all_but_the_video_has_gone(ended, hook):
    ended.round()
    ended.clock.remaining_gpu_s = DAY_S
    for each in find_garbage(ended.context):
        each.remove()
    assert list(ended.context.store.keys("jobs/")) == [
        keys.end("a"),
        "jobs/a/notify/0001/output.json",
        keys.request("a"),
    ]
    assert lose(ended).step is None


def test_a_job_is_not_swept_before_its_end_is_told(ended, hook):
    hook.then = 500
    ended.round()
    ended.clock.remaining_gpu_s = 99 * DAY_S
    assert list(find_garbage(ended.context)) == []


def test_an_expired_job_leaves_nothing_of_its_call(ended, hook):
    ended.round()
    ended.clock.remaining_gpu_s = 7 * DAY_S
    for each in find_garbage(ended.context):
        each.remove()
    assert (list(ended.context.store.keys("")), ended.clock.texts) == ([], {})


# Refused


def test_a_farm_without_a_secret_refuses_a_webhook_before_anything_is_entered(harness, tmp_path):
    farm = Farm(settings=Settings(home=tmp_path, broker_url="redis://127.0.0.1:1/0"))
    with pytest.raises(InvalidInput, match=r"^webhook: this farm calls none \(FARM_WEBHOOK_SECRET is not set\)"):
        farm.submit(harness.request)


def test_a_worker_without_a_secret_refuses_it_too(hook, tmp_path):
    harness = Harness(hook, tmp_path, webhook_secret=())
    with pytest.raises(InvalidInput, match=r"^webhook: this farm calls none"):
        run_step(harness.context, "a", claim_due_step(harness.context, "a"))
    assert harness.context.registry.jobs.status("a").state == "error"


def test_a_farm_in_this_process_refuses_a_webhook(harness):
    farm = Farm("inline://", settings=harness.context.settings)
    with pytest.raises(InvalidInput, match=r"^webhook: a farm in this process ends with it"):
        farm.submit(harness.request)
