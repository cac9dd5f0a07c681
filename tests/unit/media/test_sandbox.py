"""Files that crash, stall or bloat a decoder end as clear errors, and reach nothing else."""

from __future__ import annotations

import errno
import io
import os
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from farm.errors import Cancelled, DownloadFailed, InvalidInput
from farm.media import decoder, sandbox
from farm.media.image import read_image
from farm.media.probe import StillImage
from farm.media.sandbox import SandboxLimits, sandboxed
from farm.media.speech import speak
from farm.media.video import encode_video
from tests.support.waiting import wait_for

SPEECH = "tts_audio.text: its synthesis"


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Runs a call whose child executes other code instead; `x.png` need not exist."""

    def run(code: str, **options):
        monkeypatch.setattr(sandbox, "BOOT", code)
        path = tmp_path / "x.png"
        return sandboxed(decoder.read_visual, **options)(path=path, image=path, field="cond_video")

    return run


def test_an_image_is_written_anew(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.webp", lossless=True)
    visual = sandboxed(decoder.read_visual)(
        path=tmp_path / "x.webp", image=tmp_path / "x.png", field="cond_video"
    )
    assert visual == decoder.Visual(StillImage(30, 40, "WEBP"))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), pixels)


def test_a_large_image_is_stored_smaller_with_its_scale(tmp_path):
    Image.new("RGB", (8000, 4000)).save(tmp_path / "x.png")
    visual = sandboxed(decoder.read_visual)(
        path=tmp_path / "x.png", image=tmp_path / "y.png", field="cond_video"
    )
    assert visual.found == StillImage(8000, 4000, "PNG")
    assert read_image(tmp_path / "y.png").shape == (2828, 5657, 3)
    assert visual.scale == pytest.approx(0.7071, abs=1e-4)


def test_an_error_of_the_function_is_raised_as_it_is(tmp_path):
    (tmp_path / "x").write_text("not a video")
    with pytest.raises(DownloadFailed, match="cond_video: the file holds text") as caught:
        sandboxed(decoder.read_visual)(
            path=tmp_path / "x", image=tmp_path / "y", field="cond_video"
        )
    assert not caught.value.retryable


def write_scan_bomb(path: Path, scans: int) -> None:
    """A progressive JPEG whose last scan is repeated: each takes milliseconds to decode."""
    image = io.BytesIO()
    Image.new("L", (3000, 3000)).save(image, "JPEG", progressive=True)
    content = image.getvalue()
    last = content.rindex(b"\xff\xda")
    scan = content[last:-2]
    path.write_bytes(content[:last] + scan * scans + content[-2:])


def test_a_file_that_takes_too_long_is_refused_at_the_limit(tmp_path):
    write_scan_bomb(tmp_path / "bomb.jpg", scans=20_000)
    start = time.process_time()
    with pytest.raises(InvalidInput, match=r"cond_video: decoding takes longer than the 2 s"):
        sandboxed(decoder.read_visual, limits=SandboxLimits(seconds=2))(
            path=tmp_path / "bomb.jpg", image=tmp_path / "x.png", field="cond_video"
        )
    assert time.process_time() - start < 1, "this process decodes nothing"


def test_a_file_that_takes_too_much_memory_is_refused(tmp_path):
    Image.new("RGB", (8000, 8000)).save(tmp_path / "x.png")
    with pytest.raises(InvalidInput, match=r"cond_video: decoding takes more than the 0\.4 GB"):
        sandboxed(decoder.read_visual, limits=SandboxLimits(memory_bytes=400_000_000))(
            path=tmp_path / "x.png", image=tmp_path / "y.png", field="cond_video"
        )


def test_a_file_that_decodes_to_too_much_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.png")
    with pytest.raises(InvalidInput, match=r"cond_video: decoding writes more than the 0.0 GB"):
        sandboxed(decoder.read_visual, limits=SandboxLimits(file_bytes=100_000))(
            path=tmp_path / "x.png", image=tmp_path / "y.png", field="cond_video"
        )


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.abort()", "decoding crashed (SIGABRT)"),
        ("raise MemoryError", "decoding takes more than the 3.2 GB that are allowed"),
        ("raise RuntimeError('Cannot allocate memory')", "decoding takes more than the 3.2 GB"),
        ("raise RuntimeError('odd')", "decoding failed (RuntimeError: odd)"),
        ("import os; os.kill(os.getpid(), 24)", "decoding takes longer than the 300 s"),
    ],
)
def test_how_a_child_dies_is_named(child, code, message):
    with pytest.raises(InvalidInput) as caught:
        child(code)
    assert caught.value.message.startswith(f"cond_video: {message}")
    assert not caught.value.retryable


def test_a_full_disk_is_no_fault_of_the_input(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "x.png")
    with pytest.raises(OSError, match="cond_video: decoding found the disk full") as caught:
        sandboxed(decoder.read_visual)(
            path=tmp_path / "x.png", image=Path("/dev/full"), field="cond_video"
        )
    assert caught.value.errno == errno.ENOSPC


def test_a_child_that_the_system_kills_is_no_fault_of_the_input(child):
    with pytest.raises(OSError, match="cond_video: decoding was killed, most likely") as caught:
        child("import os; os.kill(os.getpid(), 9)")
    assert caught.value.errno == errno.ENOMEM


@pytest.mark.parametrize("answer", ["", "[]", "{}", '{"result": {"found": 1}}', '{"code": 1}'])
def test_an_answer_that_is_none_is_refused(child, answer):
    with pytest.raises(InvalidInput, match=r"^cond_video: decoding left an unreadable answer"):
        child(f"print({answer!r})")


def test_a_child_knows_no_secrets(child, monkeypatch):
    monkeypatch.setenv("FARM_WEBHOOK_SECRET", "secret")
    with pytest.raises(InvalidInput) as caught:
        child("import os; raise RuntimeError(sorted(os.environ))")
    assert "FARM" not in caught.value.message
    assert "PATH" in caught.value.message


def test_a_child_reaches_no_network(child):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = (
            "from farm.media import sandbox; sandbox._restrict(sandbox.SandboxLimits()); "
            f"import socket; socket.create_connection(('127.0.0.1', {port}))"
        )
        boot = f"import sys; sys.path.insert(0, {str(sandbox.ROOT)!r}); {connect}"
        with pytest.raises(InvalidInput, match="Permission denied"):
            child(boot)


def test_a_child_ends_when_its_caller_stops(child, tmp_path):
    pid_file = tmp_path / "pid"
    code = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(600)"

    def stop_once_it_runs() -> None:
        if pid_file.exists() and pid_file.read_text():
            raise Cancelled("the job has ended")

    with pytest.raises(Cancelled):
        child(code, check=stop_once_it_runs)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_a_child_dies_with_its_caller(tmp_path):
    pid_file = tmp_path / "pid"
    code = (
        "from farm.media import sandbox; sandbox._restrict(sandbox.SandboxLimits()); "
        f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    )
    caller = os.fork()
    if caller == 0:
        boot = f"import sys; sys.path.insert(0, {str(sandbox.ROOT)!r}); {code}"
        sandbox.BOOT = boot
        sandboxed(decoder.read_visual)(path=tmp_path, image=tmp_path, field="cond_video")
        os._exit(0)
    wait_for(lambda: pid_file.exists() and pid_file.read_text())
    os.kill(caller, signal.SIGKILL)
    os.waitpid(caller, 0)
    wait_for(lambda: not Path(f"/proc/{pid_file.read_text()}").exists())


def test_frames_of_a_video_are_stored_as_images(tmp_path):
    frames = [np.full((32, 48, 3), 20 * index, np.uint8) for index in range(10)]
    encode_video(tmp_path / "x.mp4", frames)
    (tmp_path / "frames").mkdir()
    stored = sandboxed(decoder.read_frames)(
        path=tmp_path / "x.mp4", folder=tmp_path / "frames", seconds=[0, 0.2, 9], field="x"
    )
    assert stored == decoder.Frames(3, 1.0)
    means = [read_image(path).mean() for path in sorted((tmp_path / "frames").iterdir())]
    assert means == pytest.approx([0, 100, 180], abs=2)


def test_a_video_of_very_many_chunks_is_read(tmp_path):
    encode_video(tmp_path / "x.mp4", [np.zeros((32, 48, 3), np.uint8)])
    (tmp_path / "frames").mkdir()
    instants = [index / 7 for index in range(30_000)]  # more than fits into an argument
    stored = sandboxed(decoder.read_frames)(
        path=tmp_path / "x.mp4", folder=tmp_path / "frames", seconds=instants, field="cond_video"
    )
    assert stored.count == 1


def test_what_a_library_prints_is_no_part_of_the_answer(child, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    boot = (
        f"import sys; sys.path.insert(0, {str(sandbox.ROOT)!r}); "
        "from farm.media import decoder, sandbox; read = decoder.read_visual; "
        "decoder.expect_visual = lambda path, field: print('loud') or StillImage(4, 4, 'PNG'); "
        "from farm.media.probe import StillImage; sandbox.main()"
    )
    assert child(boot).found == StillImage(4, 4, "PNG")


def test_what_a_killed_child_leaves_behind_is_removed(child, tmp_path):
    note = tmp_path / "folder"
    code = f"import os, tempfile; open({str(note)!r}, 'w').write(tempfile.mkdtemp()); os.abort()"
    with pytest.raises(InvalidInput, match="SIGABRT"):
        child(code)
    assert not Path(note.read_text()).exists()


def test_speech_is_synthesised_as_in_this_process(tmp_path):
    sandboxed(speak, subject=SPEECH)(text="Hello.", path=tmp_path / "x.wav")
    speak("Hello.", tmp_path / "y.wav")
    assert (tmp_path / "x.wav").read_bytes() == (tmp_path / "y.wav").read_bytes()


def test_a_synthesis_that_takes_too_long_is_ended_with_what_it_has_started(tmp_path):
    with pytest.raises(InvalidInput, match=rf"^{SPEECH} takes longer than the 0\.05 s"):
        sandboxed(speak, limits=SandboxLimits(seconds=0.05), subject=SPEECH)(
            text="Hello, this is the farm. " * 500, path=tmp_path / "x.wav"
        )
