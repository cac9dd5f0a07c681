"""The `farm` command: words in, one call, words out."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console
from rich.text import Text

from farm.address import Address
from farm.bar import counted, follow, metered
from farm.batch.forecast import forecast
from farm.batch.results import open_results
from farm.batch.rows import Row, rows
from farm.batch.run import Batch, Order, remember, remembered, summary
from farm.client import INLINE, Farm, Job, check_target
from farm.errors import FarmError, FarmUnreachable, InvalidInput
from farm.job import JobRequest, JobStatus, State
from farm.parcel import carried, enveloped, weighed
from farm.payload import read_payload
from farm.settings import Settings

FINE, FAILED, WRONG, UNREACHABLE, BROKEN_OFF = 0, 1, 2, 3, 130

EXIT_STATUS = {
    FINE: "all is well",
    FAILED: "a job ended without a video, a batch has rows without one, or something is not as it should be",
    WRONG: "the input is wrong: an option, a field, a file, a setting",
    UNREACHABLE: "no farm answers",
    BROKEN_OFF: "broken off by Ctrl-C; what was handed in goes on",
}
"""What a command's exit status says."""

STATUS_OF: dict[type[FarmError], int] = {InvalidInput: WRONG, FarmUnreachable: UNREACHABLE}
"""The exit status of an error; all others are FAILED."""

COLOURS = {
    **dict.fromkeys(("success", "fine"), "green"),
    **dict.fromkeys(("running", "queued"), "cyan"),
    **dict.fromkeys(("cancelled", "odd"), "yellow"),
    **dict.fromkeys(("error", "invalid", "broken"), "red"),
}
"""In which colour a state stands on a terminal."""

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
TARGET = click.Path(dir_okay=False, path_type=Path)

LOOK_EVERY_S = 0.5
"""Pause between two looks whether a video has begun to grow."""


class Door(click.Group):
    """Shows the farm's errors as one line, without a traceback, and says by its status how a command ended."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FarmError as error:
            _tell(f"{error.code}: {error.message}", error.code, "red", Console(stderr=True))
            ctx.exit(STATUS_OF.get(type(error), FAILED))
        except KeyboardInterrupt:
            ctx.exit(BROKEN_OFF)


@click.group(cls=Door, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="infinitetalk-farm")
def cli() -> None:
    """Turn a face and a voice into a talking video.

    The farm is found by FARM_BROKER_URL, or by FARM_HOME if `farm up` runs on this machine.
    """


@cli.command()
@click.option(
    "--flower",
    metavar="[ADDRESS:PORT]",
    is_flag=False,
    flag_value="127.0.0.1:5555",
    help="also run Flower, the page of messages and workers; by default on 127.0.0.1:5555",
)
def up(flower: str | None) -> None:
    """Run a whole farm on this machine: broker and workers, until Ctrl-C.

    Ctrl-C lets the workers hand back what they have in hand; a second one ends them at once. Flower listens beyond
    loopback only if FARM_FLOWER_AUTH=USER:PASSWORD is set.

    Example: farm up --flower
    """
    from farm.embedded.house import open_house

    _end_on_signals()
    settings, address = Settings.load(os.environ), Address.parse(flower, of="flower") if flower else None
    click.echo("starting broker and workers ...")
    try:
        with open_house(settings, flower=address) as house:
            if settings.metrics_address:
                _serve_numbers(house.settings)
            click.echo(f"the farm is up in {settings.folder} (logs in {settings.folder / 'logs'}); Ctrl-C ends it")
            if address:
                click.echo(f"Flower is at {address.url}")
            house.look_after(click.echo)
    except KeyboardInterrupt:
        click.echo("the farm is down")


@cli.command()
@click.option("--once", is_flag=True, help="print them once instead")
def metrics(once: bool) -> None:
    """Serve the farm's numbers to Prometheus at FARM_METRICS_ADDRESS, until Ctrl-C.

    They are looked up in the broker whenever they are asked for. Workers serve their own, where they have that setting.

    Example: farm metrics --once
    """
    from farm.exporter import FarmNumbers, text

    _end_on_signals()
    settings = Settings.load(os.environ)
    if once:
        click.echo(text(FarmNumbers(settings)), nl=False)
        return
    _serve_numbers(settings)
    try:
        signal.pause()
    except KeyboardInterrupt:
        click.echo("no numbers any more")


def _serve_numbers(settings: Settings) -> None:
    from farm.exporter import FarmNumbers, serve

    if settings.metrics_at is None:
        raise InvalidInput("FARM_METRICS_ADDRESS: not set; allowed: PORT or HOST:PORT")
    try:
        serve(FarmNumbers(settings), settings.metrics_at)
    except OSError as error:
        said = error.strerror or error
        raise InvalidInput(f"FARM_METRICS_ADDRESS: got {settings.metrics_address!r}; {said}") from error
    click.echo("numbers at http://{}:{}/metrics".format(*settings.metrics_at))


@cli.command()
@click.option("--address", default="127.0.0.1:7860", show_default=True, metavar="ADDRESS:PORT", help="where it listens")
def ui(address: str) -> None:
    """Serve a page on which people make videos, until Ctrl-C.

    Beyond this machine only with FARM_UI_AUTH=USER:PASSWORD. Example: farm ui --address 127.0.0.1:8000
    """
    from farm.ui.serve import open_page

    _end_on_signals()
    where = Address.parse(address, of="ui")
    try:
        with open_page(Farm(), where):
            click.echo(f"the page is at {where.url}; Ctrl-C ends it")
            signal.pause()
    except KeyboardInterrupt:
        click.echo("the page is gone")


@cli.command()
@click.argument("queue", type=click.Choice(["cpu", "gpu"]))
def worker(queue: Any) -> None:
    """Run one worker in this process's place.

    Example: farm worker gpu
    """
    from farm.embedded.worker import worker_command, worker_environ

    command = worker_command(queue, Settings.load(os.environ))
    os.execve(command[0], command, worker_environ(os.environ))  # noqa: S606


def request_options(command: click.Command) -> click.Command:
    """Gives a command an option for every field of the contract, the short ones and the file that has them all."""
    command.params += [
        click.Option(["--image"], metavar="FILE|URL", help="the face: a picture (short for --cond-video)"),
        click.Option(["--video"], metavar="FILE|URL", help="the face: a video (short for --cond-video)"),
        click.Option(["--audio"], metavar="FILE|URL", help="the voice (short for --cond-audio '{\"person1\": ...}')"),
        click.Option(["--text"], metavar="WORDS", help="words to speak (short for --tts-audio '{\"text\": ...}')"),
        click.Option(["--voice"], metavar="NAME", help="the voice that speaks them, for example en-us+f3"),
        click.Option(["--request", "file"], type=FILE, metavar="FILE", help="JSON of all fields; options go before it"),
    ]
    for name, field in JobRequest.model_fields.items():
        option = click.Option([f"--{name.replace('_', '-')}"], metavar="VALUE", help=field.description)
        command.params.append(option)
    return command


@request_options
@cli.command()
@click.option("--wait", is_flag=True, help="show the progress until the job ends")
@click.option("-o", "--output", type=TARGET, help="write the video here (implies --wait)")
@click.option("--here", is_flag=True, help="run the job in this process, without a farm")
@click.option("--json", "as_json", is_flag=True, help="print its status as JSON instead; after --wait the last one")
def submit(file: Path | None, wait: bool, output: Path | None, here: bool, as_json: bool, **words: str | None) -> None:
    """Hand in a job and print its id.

    Example: farm submit --image portrait.png --audio speech.wav --prompt "a woman talks" -o talking.mp4
    """
    if output:
        check_target(output)
    job = Farm(INLINE if here else None).submit(_fields(file, words))
    to_its_end = wait or output or here
    if not as_json:
        click.echo(job.id)
    elif not to_its_end:
        _show(job.status(), as_json)
    if to_its_end:
        _see_through(job, output, as_json)


@request_options
@cli.command()
@click.option(
    "--upload", is_flag=True, help="put files into the farm's store and name them store://...; else they go along"
)
@click.option("--envelope", is_flag=True, help='for Runpod: {"input": the request, "policy": its limits}')
@click.option("--execution-s", type=click.IntRange(5), metavar="N", help="policy: seconds that it may run")
@click.option("--ttl-s", type=click.IntRange(10), metavar="N", help="policy: seconds that it may wait and run in all")
@click.option("-o", "--output", type=TARGET, help="write it here instead")
def payload(
    file: Path | None,
    upload: bool,
    envelope: bool,
    execution_s: int | None,
    ttl_s: int | None,
    output: Path | None,
    **words: str | None,
) -> None:
    """Print a request as JSON, ready to be posted, after it was checked together with the files that it names.

    Files go along as data URIs. Runpod's /run takes 10 MB, its /runsync 20 MB.

    Example: farm payload --image portrait.png --audio speech.wav --prompt "a woman talks" --envelope -o request.json
    """
    if output:
        check_target(output)
    request = JobRequest.parse(_fields(file, words))
    forecast(request)
    packed = Farm(INLINE).upload(request) if upload else carried(request)
    fields = packed.model_dump(mode="json", exclude_unset=True)
    text = json.dumps(fields, indent=2, ensure_ascii=False)
    if envelope or execution_s or ttl_s:
        text = json.dumps(enveloped(fields, execution_s=execution_s, ttl_s=ttl_s), indent=2, ensure_ascii=False)
        if note := weighed(text):
            click.echo(f"note: {note}", err=True)
    if output:
        output.write_text(text + "\n", encoding="utf-8")
    else:
        click.echo(text)


@cli.command()
@click.argument("job_id")
@click.option("--json", "as_json", is_flag=True, help="print the whole status as JSON")
def status(job_id: str, as_json: bool) -> None:
    """Say where a job stands, and what became of its webhook.

    Example: farm status ID --json
    """
    job = Farm().job(job_id)
    now, notice = job.status(), job.webhook()
    if as_json:
        told = {**now.model_dump(mode="json"), "webhook": notice and notice.model_dump()}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    _show(now)
    if notice:
        click.echo(f"webhook: {notice.state}, tried {notice.tries} times{f', {notice.reason}' * bool(notice.reason)}")


@cli.command()
@click.argument("job_id")
@click.option("--play", is_flag=True, help="first print where a player finds what is made so far")
@click.option("--json", "as_json", is_flag=True, help="print its events as JSON Lines, and no bar")
def watch(job_id: str, play: bool, as_json: bool) -> None:
    """Show a job's progress until it ends.

    Example: farm watch ID --play
    """
    job = Farm().job(job_id)
    if play:
        _tell_playlist(job, as_json)
    if as_json:
        for event in job.events():
            click.echo(event.model_dump_json())
        _end_as(job.status())
    else:
        _see_through(job, None, as_json)


@cli.command()
@click.argument("job_id")
@click.option("-o", "--output", type=TARGET, help="write the video here")
@click.option("--json", "as_json", is_flag=True, help="print the whole result as JSON")
def result(job_id: str, output: Path | None, as_json: bool) -> None:
    """Print where the video of a finished job lies, or write it to a file.

    Example: farm result ID -o talking.mp4
    """
    if output:
        check_target(output)
    job = Farm().job(job_id)
    now = job.status()
    if not now.ended:
        raise InvalidInput(f"job_id: got {job_id!r}; it has not ended, it is at {now.stage} ({now.pct:.0f} %)")
    made = job.result()
    if output:
        job.save(output)
    if as_json:
        click.echo(made.model_dump_json(indent=2))
    else:
        click.echo(output or (made.video and made.video.url))


@cli.command()
@click.argument("job_ids", metavar="JOB_ID...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="print them as JSON Lines")
def cancel(job_ids: tuple[str, ...], as_json: bool) -> None:
    """End jobs; a running step stops at its next denoise step.

    Example: farm cancel ID, or a whole batch: farm cancel $(cat ids)
    """
    farm = Farm()
    for job_id, cancelled in farm.cancel(job_ids, by="farm cancel").items():
        state = farm.job(job_id).status().state
        said = state if cancelled else f"it had ended already: {state}"
        if as_json:
            click.echo(json.dumps({"job_id": job_id, "cancelled": cancelled, "state": state}))
        else:
            _tell(said if len(job_ids) == 1 else f"{job_id}  {said}", state)


@cli.command()
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="how many")
@click.option("--state", type=click.Choice(get_args(State)), help="only those in this state")
@click.option("--since", type=click.DateTime(), help="only those entered at this time (UTC) or later")
@click.option("--json", "as_json", is_flag=True, help="print them as JSON Lines")
def jobs(limit: int, state: State | None, since: datetime | None, as_json: bool) -> None:
    """List the newest jobs.

    Example: farm jobs --state error --since 2026-11-22
    """
    begin = since.replace(tzinfo=UTC) if since else 0
    for each in Farm().jobs(limit, state=state, since=begin):
        if as_json:
            click.echo(each.model_dump_json())
        else:
            _tell(f"{each.job_id}  {each.state:9}  {each.pct:5.1f} %  {each.stage}", each.state)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="print them as JSON Lines")
def recover(as_json: bool) -> None:
    """Enter jobs again that the broker has lost, and let them go on from their last finished chunk.

    Does nothing to jobs that the broker knows, so it may be run at any time and more than once.

    Example: farm recover
    """
    outcomes: Counter[str] = Counter()
    for each in Farm().recover():
        outcomes[each.outcome] += 1
        if as_json:
            click.echo(json.dumps({field: getattr(each, field) for field in ("job_id", "outcome", "reason", "kept")}))
        else:
            click.echo(f"{each.job_id}  {each.outcome:10}  {each.reason or ''}".rstrip())
    if not as_json:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        click.echo(f"jobs in the store: {counts or 'none'}")


@cli.command()
@click.option("--dry-run", is_flag=True, help="only say what would be removed")
@click.option("--json", "as_json", is_flag=True, help="print it as JSON Lines")
def gc(dry_run: bool, as_json: bool) -> None:
    """Remove what nobody needs any more, from the store, the broker and this machine's temporary folder.

    Attempts that were overtaken; of jobs that ended FARM_KEEP_INTERMEDIATES_S ago all but the video; jobs that ended
    FARM_KEEP_JOBS_S ago; folders of workers that died. Never what is current, and no job that the broker does not know.

    Example: farm gc --dry-run
    """
    objects = size = 0
    for each in Farm().gc(dry_run=dry_run):
        objects, size = objects + each.objects, size + each.bytes
        told = {field: getattr(each, field) for field in ("reason", "name", "objects", "bytes")}
        line = f"{each.reason:12}  {each.objects:5}  {each.bytes / 1e6:10.3f} MB  {each.name}"
        click.echo(json.dumps(told) if as_json else line)
    if not as_json:
        click.echo(f"{'would remove' if dry_run else 'removed':12}  {objects:5}  {size / 1e6:10.3f} MB")


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="print them as JSON Lines")
def doctor(as_json: bool) -> None:
    """Look at all that a farm needs from here: broker, clock, store, workers, weights, GPU, ffmpeg, disk.

    Says what to do about each. Exit status 1 if something is broken.

    Example: farm doctor
    """
    from farm.doctor import findings

    states = set()
    for each in findings(Settings.load(os.environ)):
        states.add(each.state)
        line = f"{each.state:6}  {each.what:8}  {each.said}" + (f"\n{'':18}-> {each.remedy}" if each.remedy else "")
        if as_json:
            click.echo(json.dumps(asdict(each)))
        else:
            _tell(line, each.state)
    if "broken" in states:
        raise SystemExit(FAILED)


@cli.command()
def schema() -> None:
    """Print the job contract as JSON Schema.

    Example: farm schema > job.schema.json
    """
    click.echo(json.dumps(JobRequest.model_json_schema(), indent=2))


OUTCOMES = click.option("--json", "as_json", is_flag=True, help="print each row as it ends as JSON Lines, and no bar")


@cli.group()
def batch() -> None:
    """Make many videos from one file: a CSV, JSON Lines, or a JSON with a batch.

    Example: farm batch run jobs.csv
    """


@batch.command()
@click.argument("file", type=FILE)
@click.option("--out", default=Path("results.csv"), show_default=True, type=TARGET)
@click.option("--dry-run", is_flag=True, help="only check every row and say what it will take")
@click.option(
    "--priority", type=click.Choice(["low", "normal", "high"]), default="low", show_default=True, help="of all its jobs"
)
@click.option("--in-flight", default=20, show_default=True, type=click.IntRange(1), help="jobs at once, at most")
@OUTCOMES
def run(file: Path, out: Path, dry_run: bool, priority: Any, in_flight: int, as_json: bool) -> None:
    """Make a video of every row of FILE, and write a line into the results as each ends.

    Columns are the contract's fields, with parts as in cond_audio.person1, and id. Relative paths start at FILE's
    folder. The same command again goes on: rows that have their video are left alone, the others are tried again.

    Example: farm batch run jobs.csv --out results.csv
    """
    if dry_run:
        _tell_forecast(file, as_json)
    else:
        check_target(out)
        order = Order(file=file.resolve(), out=out.resolve(), priority=priority, in_flight=in_flight)
        _run_batch(Farm(), order, as_json)


@batch.command("watch")
@click.argument("batch_id")
@OUTCOMES
def watch_batch(batch_id: str, as_json: bool) -> None:
    """Go on with a batch that was broken off, on the machine that has its file.

    Example: farm batch watch ID
    """
    farm = Farm()
    _run_batch(farm, remembered(farm, batch_id), as_json)


def _run_batch(farm: Farm, order: Order, as_json: bool) -> None:
    """Sees a batch through; fails unless every row has its video."""
    console, counts = Console(stderr=True, quiet=as_json), Counter[str]()
    total = sum(1 for _ in rows(order.file))
    with open_results(order.out) as results:
        remember(farm, order)
        counts["success"] = len(results.done)
        begun = {"batch": order.id, "rows": total, "done": counts["success"], "results": str(order.out)}
        click.echo(json.dumps(begun) if as_json else order.id)
        with counted(console, total, done=len(results.done)) as report:
            try:
                for outcome in Batch(farm, order, results).run():
                    counts[outcome.status] += 1
                    report(outcome.id, outcome.status, summary(counts))
                    if as_json:
                        click.echo(json.dumps(asdict(outcome)))
            except KeyboardInterrupt:
                console.print(f"the farm goes on with what was submitted; `farm batch watch {order.id}` with the rest")
                raise
    if not as_json:
        click.echo(f"{total} rows: {summary(counts)}; {order.out}")
    if counts["success"] < total:
        raise SystemExit(FAILED)


def _tell_forecast(file: Path, as_json: bool) -> None:
    """A line for each row, then their sums; the input is wrong if a row cannot become a job."""
    counts, gpu_s, unheard = Counter[str](), 0.0, 0
    for row in rows(file):
        try:
            ahead = forecast(row.request())
        except FarmError as error:
            counts["invalid"] += 1
            _tell_row(row, f"{error.code}: {error.message}", {"code": error.code, "message": error.message}, as_json)
            continue
        counts["good"] += 1
        gpu_s += ahead.gpu_s or 0
        unheard += ahead.gpu_s is None
        told = "not known before its sound is here"
        if ahead.gpu_s is not None:
            told = f"{ahead.frames:7} frames  {ahead.chunks:5} chunks  {ahead.gpu_s:8.0f} s"
        _tell_row(row, told, asdict(ahead), as_json)
    if not as_json:
        click.echo(
            f"{counts.total()} rows: {counts['good']} good, {counts['invalid']} invalid; "
            f"about {gpu_s / 3600:.1f} hours of one H100{f' without {unheard} that are not known' * (unheard > 0)}"
        )
    if counts["invalid"]:
        raise SystemExit(WRONG)


def _tell_row(row: Row, told: str, values: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"line": row.line, "id": row.name, **values}))
    else:
        _tell(f"{row.line:6}  {row.name:20}  {told}", values.get("code", ""), "red")


@cli.command()
@click.argument("request", type=FILE)
def demo(request: Path) -> None:
    """Start a farm, run one request through it, show its progress, and stop the farm again.

    Example: farm demo examples/single_image.json
    """
    from farm.embedded.house import open_house

    _end_on_signals()
    settings = Settings.load(os.environ)
    click.echo("starting broker and workers ...")
    with open_house(settings) as house:
        job = Farm(settings=house.settings).submit(read_payload(request))
        click.echo(f"job {job.id} is on its way through download, embed, generate and mux")
        _see_through(job, settings.folder / "demo.mp4", as_json=False)


PRESET = click.argument("name", metavar="[PRESET]", envvar="FARM_PRESET", default="infinitetalk-480")


@cli.group()
def weights() -> None:
    """Fetch the model's weights: pull, then convert, then check.

    They end in the folder FARM_WEIGHTS, or in FARM_HOME. The miniature's come with the package and need none of this.

    Example: farm weights pull && farm weights convert && farm weights check
    """


@weights.command()
@PRESET
@click.option(
    "--speakers", type=click.Choice(["single", "multi"]), default="single", show_default=True, help="which InfiniteTalk"
)
@click.option(
    "--revision", "revisions", multiple=True, metavar="REPOSITORY=REVISION", help="branch, tag or commit; else main"
)
def pull(name: str, speakers: str, revisions: tuple[str, ...]) -> None:
    """Download the published weights of PRESET from the hub; started again, it goes on where it stopped.

    HF_HOME says where they are kept, HF_ENDPOINT names a mirror, HF_TOKEN signs in.

    Example: farm weights pull infinitetalk-480 --speakers multi
    """
    from farm.model.presets import preset
    from farm.model.weights.pull import pull

    chosen = dict(_pair(each, "revision") for each in revisions)
    folder = Settings.load(os.environ).weights_folder
    for source in pull(preset(name), folder, speakers=speakers, revisions=chosen, tell=click.echo).values():
        click.echo(f"{source.repository} at {source.commit}: {source.path}")
    click.echo(f"next: farm weights convert {name}")


@weights.command()
@PRESET
@click.option("--wan", envvar="CKPT_DIR", metavar="FOLDER", help="Wan2.1-I2V-14B-480P, original or Diffusers layout")
@click.option("--infinitetalk", envvar="INFINITETALK_DIR", metavar="FILE", help="InfiniteTalk's, or an eight-bit file")
@click.option("--wav2vec", envvar="WAV2VEC_DIR", metavar="FOLDER", help="chinese-wav2vec2-base")
def convert(name: str, **paths: str | None) -> None:
    """Make the folder that PRESET is loaded from out of published weights; by default those that were pulled.

    Example: farm weights convert --wan Wan2.1-I2V-14B-480P --infinitetalk infinitetalk.safetensors
    """
    from farm.model.presets import preset
    from farm.model.weights.convert import convert
    from farm.model.weights.sources import chosen_sources

    model, root = preset(name), Settings.load(os.environ).weights_folder
    sources = chosen_sources(model, root, {role: Path(path) for role, path in paths.items() if path})
    with metered(Console(stderr=True)) as report:
        folder = convert(model, root, sources, report=report)
    click.echo(folder)


@weights.command()
@PRESET
@click.option("--json", "as_json", is_flag=True, help="print each part as JSON Lines")
def check(name: str, as_json: bool) -> None:
    """Compare every tensor of PRESET's folder with the model, by name and shape, without loading it.

    Example: farm weights check miniature
    """
    from farm.model.presets import preset
    from farm.model.weights.check import check

    model = preset(name)
    folder = model.folder(Settings.load(os.environ).weights_folder)
    for part, (tensors, size) in check(folder, model).items():
        told = {"part": part, "tensors": tensors, "bytes": size}
        click.echo(json.dumps(told) if as_json else f"{part:14} {tensors:5} tensors {size / 1e9:8.3f} GB")


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise InvalidInput(f"{option}: got {text!r}; allowed: NAME=VALUE")
    return name, value


def _end_on_signals() -> None:
    """SIGTERM ends a farm like Ctrl-C; and Ctrl-C works also where a script started us in the background."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def _fields(file: Path | None, words: Mapping[str, str | None]) -> dict[str, Any]:
    """The contract's fields that a file and the options name; InvalidInput if an option says what another says."""
    given = {name: word for name, word in words.items() if word is not None}
    short = {name: given.pop(name) for name in ("image", "video", "audio", "text", "voice") if name in given}
    fields = JobRequest.values(given)
    meant: list[tuple[str, str, Any]] = [
        ("cond_video", name, short[name]) for name in ("image", "video") if name in short
    ]
    if "audio" in short:
        meant.append(("cond_audio", "audio", {"person1": short["audio"]}))
    if "text" in short or "voice" in short:
        meant.append(("tts_audio", "text", {"text": short.get("text", ""), "human1_voice": short.get("voice")}))
    for field, option, value in meant:
        if field in fields:
            raise InvalidInput(f"--{option}: {field} is given twice; allowed: one of its options")
        fields[field] = value
    return {**(read_payload(file) if file else {}), **fields}


def _tell_playlist(job: Job, as_json: bool) -> None:
    """Prints where a job's video grows, as soon as there is something to watch."""
    while (address := job.playlist()) is None and not job.status().ended:
        time.sleep(LOOK_EVERY_S)
    if address:
        click.echo(json.dumps({"playlist": address}) if as_json else address)


def _see_through(job: Job, output: Path | None, as_json: bool) -> None:
    """Follows a job to its end, then says where the video is, or why there is none."""
    try:
        ended = follow(job, Console(stderr=True, quiet=as_json))
    except KeyboardInterrupt:
        click.echo(f"job {job.id} goes on; `farm watch {job.id}` follows it, `farm cancel {job.id}` ends it", err=True)
        raise
    saved = job.save(output) if output and ended.state == "success" else None
    if saved and not as_json:
        click.echo(saved)
    else:
        _show(ended, as_json)
    _end_as(ended)


def _end_as(ended: JobStatus) -> None:
    if ended.state != "success":
        raise SystemExit(FAILED)


def _show(status: JobStatus, as_json: bool = False) -> None:
    if as_json:
        click.echo(status.model_dump_json(indent=2))
        return
    made = status.result
    stage = made.error.at_stage if made and made.error else status.stage
    _tell(f"{status.state} at {stage} ({status.pct:.0f} %)", status.state)
    if made and made.error:
        _tell(f"{made.error.code}: {made.error.message}", made.error.code, "red")
    if made and made.video:
        click.echo(made.video.url)
        for warning in made.warnings:
            click.echo(f"note: {warning}")


def _tell(line: str, word: str, colour: str | None = None, console: Console | None = None) -> None:
    """Prints a line; on a terminal that knows colours with a word of it in its colour."""
    text, begin = Text(line), line.find(word)
    text.stylize(colour or COLOURS.get(word, ""), begin, begin + len(word))
    (console or Console()).print(text, soft_wrap=True)


def main() -> None:
    """The console script's entry."""
    cli()
