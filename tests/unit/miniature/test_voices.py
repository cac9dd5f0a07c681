"""The voices that the miniature learns from."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from math import tau
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import Generator, Tensor

from examples import make_media
from farm.media.audio import normalise_loudness, resample, speech
from farm.media.speech import synthesise, voice_variants, voices
from farm.plan import frame_count
from miniature.noises import babble, coloured_noise, mains_hum, music
from miniature.sentences import HELD_OUT, TRAINED
from miniature.voices import FRAME, VARIANTS, Voices, corpus, opening, spread

EXAMPLES = Path(make_media.__file__).parent


def tone(hertz: float, seconds: float, loudness: float = 0.1) -> Tensor:
    """[1, n]."""
    return loudness * torch.sin(tau * hertz * torch.arange(int(16_000 * seconds)) / 16_000)[None]


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def clean() -> Tensor:
    """The demo's sentence as the encoder hears it, [1, n]."""
    return torch.from_numpy(speech(EXAMPLES / "speech.wav"))[None]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of two trained clips, one low and one high tone, and a held-out one of noise."""
    clips = [
        tone(200, 2)[0],
        tone(3000, 3)[0],
        0.1 * torch.randn(32_000, generator=rng()),
    ]
    path = tmp_path_factory.mktemp("voices") / "voices.safetensors"
    save_file(
        {
            "samples": np.concatenate([(32768 * clip.numpy()).astype(np.int16) for clip in clips]),
            "ends": np.cumsum([len(clip) for clip in clips]),
            "held_out": np.array([False, False, True]),
        },
        path,
    )
    return path


@pytest.fixture(scope="module")
def drawn(stored: Path) -> tuple[Tensor, Tensor]:
    """Noisy and clean, 300 recordings of 2 s."""
    return Voices(stored).recordings(300, 2, rng())


# ---- sentences


def test_no_language_of_the_demo_and_no_held_out_one_is_trained_on() -> None:
    held_out = {voice.partition("+")[0].partition("-")[0] for voice in HELD_OUT}
    assert len(TRAINED) >= 24
    assert len(HELD_OUT) >= 8
    assert held_out >= {"en"}
    assert held_out & set(TRAINED) == set()


def test_every_voice_can_be_spoken() -> None:
    assert {voice.partition("+")[0] for voice in (*TRAINED, *HELD_OUT)} <= set(voices())
    assert {variant.removeprefix("+") for variant in VARIANTS if variant} <= set(voice_variants())


def test_no_variant_of_a_held_out_voice_is_trained_on() -> None:
    assert {"+" + voice.partition("+")[2] for voice in HELD_OUT if "+" in voice} & set(
        VARIANTS
    ) == set()


def test_no_sentence_is_repeated_or_from_the_demo() -> None:
    every = [sentence for some in (*TRAINED.values(), *HELD_OUT.values()) for sentence in some]
    demo = f"{make_media.SENTENCE} {make_media.QUESTION} {make_media.ANSWER}"
    assert len(set(every)) == len(every)
    assert not [sentence for sentence in every if sentence in demo]


# ---- the corpus


@pytest.fixture(scope="module")
def small() -> dict[str, np.ndarray]:
    """Two sentences twice, and a held-out one."""
    return corpus(
        {"de": ["Guten Morgen, wie geht es dir heute?", "Es schneit."]},
        {"en-us": ["Good morning."]},
    )


def test_a_corpus_holds_every_sentence_as_often_as_it_is_said(
    small: dict[str, np.ndarray],
) -> None:
    assert small["samples"].dtype == np.int16
    assert small["held_out"].tolist() == [False] * 4 + [True]
    assert small["ends"][-1] == len(small["samples"])
    assert (np.diff(small["ends"], prepend=0) > 8000).all()


def test_a_sentence_is_said_slower_and_faster() -> None:
    made = corpus(
        {"de": ["Guten Morgen, wie geht es dir heute?"]},
        {"en-us": ["Good morning."]},
        sayings=6,
    )
    lengths = np.diff(made["ends"], prepend=0)[:6]
    assert lengths.max() > 1.5 * lengths.min()


def test_all_voices_are_equally_loud(small: dict[str, np.ndarray]) -> None:
    for clip in np.split(small["samples"], small["ends"])[:-1]:
        sound = clip / np.float32(32768)
        np.testing.assert_allclose(normalise_loudness(sound), sound, atol=1e-3)


def test_the_same_seed_makes_the_same_corpus_and_another_one_another(
    small: dict[str, np.ndarray],
) -> None:
    sentences = (
        {"de": ["Guten Morgen, wie geht es dir heute?", "Es schneit."]},
        {"en-us": ["Good morning."]},
    )
    assert np.array_equal(corpus(*sentences)["samples"], small["samples"])
    assert not np.array_equal(corpus(*sentences, seed=1)["samples"], small["samples"])


def test_training_needs_no_sound_library() -> None:
    program = (
        "import sys, miniature.voices, miniature.audio_encoder;"
        "heavy = {'av', 'pydantic', 'pyloudnorm', 'soxr', 'espeakng_loader', 'diffusers'};"
        "print(heavy & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=EXAMPLES.parent,
    )
    assert done.stdout == "set()\n", done.stderr


# ---- what lips do


def test_ordinary_speech_opens_the_mouth_half_and_its_loudest_vowels_almost_wholly(
    clean: Tensor,
) -> None:
    voiced = opening(clean)[opening(clean) > 0.15]
    assert 0.4 < voiced.mean() < 0.7
    assert voiced.max() > 0.9


@pytest.mark.parametrize("hiss", [0, 0.0003])
def test_the_mouth_is_closed_without_speech(hiss: float) -> None:
    sound = hiss * torch.randn(1, 16_000, generator=rng())
    assert opening(sound).eq(0).all()
    assert spread(sound).eq(0).all()


def test_a_pause_closes_the_mouth_even_over_a_faint_hiss(clean: Tensor) -> None:
    hiss = 0.001 * torch.randn(clean.shape, generator=rng())
    pause = torch.zeros(1, 16_000) + hiss[:, :16_000]
    assert opening(torch.cat([clean + hiss, pause], dim=1))[0, -22:].eq(0).all()


def test_a_gain_makes_no_difference(clean: Tensor) -> None:
    for turned in (0.2, 5.0):
        torch.testing.assert_close(opening(turned * clean), opening(clean), atol=1e-4, rtol=0)
        torch.testing.assert_close(spread(turned * clean), spread(clean), atol=1e-3, rtol=0)


def test_a_long_pause_beside_speech_makes_no_difference(clean: Tensor) -> None:
    longer = torch.nn.functional.pad(clean, (0, 320_000))
    frames = opening(clean).shape[1] - 2
    torch.testing.assert_close(
        opening(longer)[:, :frames], opening(clean)[:, :frames], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("samples", [640, 1279, 1280, 20_960, 51_840, 51_841])
def test_there_is_one_opening_for_each_video_frame(samples: int) -> None:
    sound = torch.randn(2, samples, generator=rng())
    assert opening(sound).shape == spread(sound).shape == (2, frame_count(samples))


@pytest.mark.parametrize("frame", [0, 10, 24])
def test_the_mouth_is_widest_open_where_the_sound_is(frame: int) -> None:
    # given 40 ms of sound, just as long as a frame is shown
    sound = torch.zeros(1, 16_000)
    sound[:, frame * FRAME : (frame + 1) * FRAME] = tone(300, 0.04)
    # then that frame's mouth is open, its neighbours' a little, equally, and no other
    opened = opening(sound)[0]
    assert opened.argmax() == frame
    assert opened[[index for index in range(25) if abs(index - frame) > 1]].eq(0).all()
    if frame == 10:
        assert opened[9].item() == pytest.approx(opened[11].item(), abs=0.02)


@pytest.mark.parametrize(("hertz", "low", "high"), [(300, -1, -0.8), (3000, 0.8, 1)])
def test_dark_sounds_round_the_lips_and_bright_ones_draw_them_wide(
    hertz: float, low: float, high: float
) -> None:
    middle = spread(tone(hertz, 1))[0, 2:-2]
    assert (middle >= low).all()
    assert (middle <= high).all()


def test_wide_lips_are_those_of_see_and_round_ones_those_of_you() -> None:
    see, you = (
        torch.from_numpy(normalise_loudness(resample(*synthesise(words, "it"), 16_000)))[None]
        for words in ("si, mi, vi, di", "su, tu, uno, tutù")
    )
    assert spread(see).mean() > 0.05
    assert spread(you).mean() < -0.3


# ---- what is noisy


def test_the_same_seed_makes_the_same_recordings(stored: Path) -> None:
    voices = Voices(stored)
    for make in (voices.recordings, voices.conversations):
        (noisy, clean), (again, _), (other, _) = (make(6, 2, rng(seed)) for seed in (3, 3, 4))
        assert torch.equal(noisy, again)
        assert not torch.equal(noisy, other)
        assert noisy.dtype == clean.dtype == torch.float32


def test_recordings_have_the_requested_length(drawn: tuple[Tensor, Tensor]) -> None:
    noisy, clean = drawn
    assert noisy.shape == clean.shape == (300, 32_000)
    assert noisy.isfinite().all()


def test_recordings_for_training_hold_no_held_out_voice(stored: Path) -> None:
    # given a corpus whose trained clips are tones of 200 and 3000 Hz, and the held-out one noise
    def between_the_tones(held_out: bool) -> float:
        clean = Voices(stored, held_out=held_out).recordings(50, 3, rng())[1]
        power = torch.fft.rfft(clean * torch.hann_window(48_000)).abs().square()
        return float(power[:, 1200:6000].sum() / power.sum())

    assert between_the_tones(held_out=False) < 0.01
    assert between_the_tones(held_out=True) > 0.2


def test_a_clip_is_what_was_stored(stored: Path) -> None:
    assert len(Voices(stored)) == 2
    assert len(Voices(stored, held_out=True)) == 1
    torch.testing.assert_close(Voices(stored).clip(1), tone(3000, 3)[0], atol=1e-4, rtol=0)


def test_voices_are_higher_and_lower_than_they_were_spoken(stored: Path) -> None:
    clean = Voices(stored).sentences(200, 1, rng())
    peaks = torch.fft.rfft(clean * torch.hann_window(16_000)).abs().argmax(dim=1)
    low = peaks[(peaks > 50) & (peaks < 500)].float()
    assert 160 < low.quantile(0.05) < 180
    assert 225 < low.quantile(0.95) < 250


def test_there_are_pauses_between_sentences_and_sound_without_clicks(
    stored: Path,
) -> None:
    clean = Voices(stored).sentences(40, 8, rng())
    pauses = (clean.unfold(1, 800, 800).abs().amax(dim=2) == 0).float().mean(dim=1)
    assert pauses.min() > 0
    assert 0.05 < pauses.mean() < 0.4
    assert clean.abs().max() < 0.101


def test_some_recordings_have_a_silence_that_is_longer_than_any_pause(
    stored: Path,
) -> None:
    def longest_s(clean: Tensor) -> float:
        """Of the silences that are whole tenths of a second."""
        silent = (clean.unfold(1, 1600, 1600) == 0).all(dim=2)
        return max(run for run in range(1, 100) if silent.unfold(1, run, 1).all(dim=2).any()) / 10

    voices = Voices(stored)
    assert longest_s(voices.sentences(20, 10, rng())) <= 1.5
    clean = voices.recordings(20, 10, rng())[1]
    assert longest_s(clean[clean.any(dim=1)]) > 2


def test_one_recording_in_eight_holds_no_speech(
    drawn: tuple[Tensor, Tensor],
) -> None:
    noisy, clean = drawn
    silent = (clean == 0).all(dim=1)
    assert 0.08 < silent.float().mean() < 0.17
    # and in some of those there is nothing but noise
    assert 0 < (noisy[silent] != 0).any(dim=1).float().mean() < 1


def test_every_other_recording_is_noisy_5_to_30_db_below_the_voice(
    drawn: tuple[Tensor, Tensor],
) -> None:
    noisy, clean = drawn
    noise = (noisy - clean).square().mean(dim=1)
    has_noise = noise > 1e-12
    assert 0.43 < has_noise.float().mean() < 0.57
    has_noise &= (clean != 0).any(dim=1)
    # given that a clip's loudness is 0.071, and that a recording is louder or quieter as a whole
    loudest = clean[has_noise].abs().amax(dim=1) / 2**0.5
    below = 20 * torch.log10(loudest / noise[has_noise].sqrt())
    assert below.quantile(0.02) > 4
    assert below.quantile(0.98) < 31


def test_recordings_are_of_different_loudness(drawn: tuple[Tensor, Tensor]) -> None:
    peaks = drawn[1].abs().amax(dim=1)
    peaks = peaks[peaks > 0]
    assert peaks.max() > 4 * peaks.min()


@pytest.fixture(scope="module")
def talk(stored: Path) -> tuple[Tensor, Tensor]:
    """Noisy and clean speech of two, 200 conversations of 2 s."""
    return Voices(stored).conversations(200, 2, rng())


def test_most_conversations_go_in_turns_and_the_listener_is_wholly_silent(
    talk: tuple[Tensor, Tensor],
) -> None:
    noisy, clean = talk
    assert noisy.shape == clean.shape == (200, 2, 32_000)
    at_once = (noisy != 0).all(dim=1).any(dim=1)
    assert 0.7 < (~at_once).float().mean() < 0.95


def test_both_speak_in_about_half_of_the_short_conversations(
    talk: tuple[Tensor, Tensor],
) -> None:
    speaks = (talk[1] != 0).any(dim=2)
    assert 0.35 < speaks.all(dim=1).float().mean() < 0.65
    # and each of the two is the silent one as often
    assert speaks.float().mean(dim=0).diff().abs() < 0.1


def test_nothing_is_spoken_that_is_not_heard(talk: tuple[Tensor, Tensor]) -> None:
    noisy, clean = talk
    assert not ((clean != 0) & (noisy == 0)).any()


# ---- noises


@pytest.mark.parametrize("make", [coloured_noise, mains_hum, music])
def test_noises_have_a_power_of_one_and_follow_the_seed(
    make: Callable[[int, int, Generator], Tensor],
) -> None:
    noise = make(3, 16_001, rng())
    torch.testing.assert_close(noise.square().mean(dim=1), torch.ones(3))
    assert torch.equal(noise, make(3, 16_001, rng()))
    assert not torch.equal(noise[0], noise[1])


def test_babble_is_many_voices_at_once() -> None:
    # given speech for a tenth of the time
    speech = torch.zeros(8, 32_000)
    speech[:, :3200] = torch.randn(8, 3200, generator=rng())
    # then twelve such speak for most of it
    noise = babble(speech, rng())
    torch.testing.assert_close(noise.square().mean(dim=1), torch.ones(8))
    assert (noise.abs() > 0.1).float().mean() > 0.5


def test_babble_of_silence_is_silent() -> None:
    assert babble(torch.zeros(2, 1000), rng()).eq(0).all()
