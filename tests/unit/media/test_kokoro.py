"""Speech by Kokoro's own code, with random weights in the published configuration."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from farm.client.voices import voices as voices_here
from farm.errors import InvalidInput, PipelineLoadFailed
from farm.job.dialogue import Turn, turns
from farm.media.audio import decode
from farm.media.kokoro import MAX_PHONEMES, WEIGHTS, phrases, synthesise, voices
from farm.media.sandbox import SandboxLimits, sandboxed
from farm.media.speech import check_speech, speak, speak_dialogue
from farm.settings import Settings

LETTERS = ';:,.!?—…"() abcdefhijklmnopqrstuvwxyzAIOQSTWYɑɐɒæɔðəɚɛɜɡɪŋɹɾʃʊʌʒʔʤʧˈˌːθᵊ'
CONFIG: dict[str, Any] = {
    "vocab": {letter: index for index, letter in enumerate(LETTERS, start=1)},
    "n_token": 178,
    "hidden_dim": 512,
    "style_dim": 128,
    "n_layer": 3,
    "n_mels": 80,
    "max_dur": 50,
    "dropout": 0.2,
    "text_encoder_kernel_size": 5,
    "plbert": {
        "hidden_size": 768,
        "num_attention_heads": 12,
        "intermediate_size": 2048,
        "max_position_embeddings": 512,
        "num_hidden_layers": 12,
        "dropout": 0.1,
    },
    "istftnet": {
        "upsample_rates": [10, 6],
        "upsample_kernel_sizes": [20, 12],
        "upsample_initial_channel": 512,
        "resblock_kernel_sizes": [3, 7, 11],
        "resblock_dilation_sizes": [[1, 3, 5]] * 3,
        "gen_istft_n_fft": 20,
        "gen_istft_hop_size": 5,
    },
}


def parts_of(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return torch.load(folder / WEIGHTS, weights_only=True)


@pytest.fixture(scope="module")
def kokoro(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as published, with 82 million random parameters that speak briefly."""
    from kokoro.model import KModel

    folder = tmp_path_factory.mktemp("kokoro")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "voices").mkdir()
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(7)
        torch.save({}, folder / WEIGHTS)
        model = KModel(
            "hexgrad/Kokoro-82M", config=str(folder / "config.json"), model=str(folder / WEIGHTS)
        )
        model.predictor.duration_proj.linear_layer.bias.data.fill_(-3)
        for name in ("af_heart", "bm_george", "jf_alpha"):
            torch.save(torch.randn(MAX_PHONEMES, 1, 256), folder / "voices" / f"{name}.pt")
    parts = {
        name: {f"module.{key}": tensor for key, tensor in part.state_dict().items()}
        for name, part in model.named_children()
    }
    torch.save(parts, folder / WEIGHTS)
    return folder


def test_only_voices_of_supported_languages_are_listed(kokoro):
    assert voices(kokoro) == ["af_heart", "bm_george"]


def test_without_weights_there_are_no_voices(tmp_path):
    assert voices(tmp_path) == []


def test_text_becomes_speech(kokoro):
    samples = synthesise("Hello there.", "af_heart", kokoro)
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert 0 < np.abs(samples).max() <= 1
    assert 0.2 < len(samples) / 24_000 < 5


def test_the_same_text_makes_the_same_samples_whatever_was_spoken_before(kokoro):
    first = synthesise("Hello.", "af_heart", kokoro)
    assert not np.array_equal(synthesise("Hello.", "bm_george", kokoro), first)
    torch.rand(1)
    np.testing.assert_array_equal(synthesise("Hello.", "af_heart", kokoro), first)


def test_every_weight_comes_from_the_file(kokoro, tmp_path):
    # given the same folder with one tensor changed
    other = shutil.copytree(kokoro, tmp_path / "other")
    parts = parts_of(kokoro)
    parts["text_encoder"]["module.embedding.weight"] += 1
    torch.save(parts, other / WEIGHTS)
    spoken = [synthesise("Hello.", "af_heart", folder) for folder in (kokoro, other)]
    assert spoken[0].shape != spoken[1].shape or not np.array_equal(*spoken)


@pytest.mark.parametrize(
    ("part", "tensor"), [("bert", "embeddings.word_embeddings.weight"), ("decoder", "")]
)
def test_a_missing_tensor_is_named(kokoro, tmp_path, part, tensor):
    parts = parts_of(kokoro)
    parts[part] = {name: value for name, value in parts[part].items() if tensor not in name}
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    torch.save(parts, tmp_path / WEIGHTS)
    shutil.copytree(kokoro / "voices", tmp_path / "voices")
    with pytest.raises(
        PipelineLoadFailed, match=rf"kokoro-v1_0\.pth: \d+ tensors are missing, .* {part}\.{tensor}"
    ):
        synthesise("Hello.", "af_heart", tmp_path)


@pytest.mark.parametrize("content", [b"", b"words", b"PK\3\4 half a file"])
def test_a_broken_file_is_named(kokoro, tmp_path, content):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(PipelineLoadFailed, match=r"kokoro-v1_0\.pth: it cannot be read"):
        synthesise("Hello.", "af_heart", tmp_path)


def test_a_pickle_that_runs_code_is_refused(kokoro, tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    torch.save({"bert": Trap()}, tmp_path / WEIGHTS)
    with pytest.raises(PipelineLoadFailed, match="it cannot be read"):
        synthesise("Hello.", "af_heart", tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_a_text_is_cut_where_sentences_end():
    (short,) = phrases("Hello there. How are you?", "en-us")
    assert short == "həlˈO ðˈɛɹ. hˈW ɑɹ ju?"
    long = phrases("The farm talks on and on without a pause. " * 40, "en-us")
    assert len(long) > 1
    assert max(map(len, long)) <= MAX_PHONEMES
    assert all(phrase.endswith(".") for phrase in long)


def test_an_overlong_sentence_is_cut_between_words():
    pieces = phrases("on and on " * 200, "en-us")
    assert max(map(len, pieces)) <= MAX_PHONEMES
    assert " ".join(pieces).count("ænd") == 200


@pytest.mark.parametrize("text", ["", "...", "\n"])
def test_a_text_that_cannot_be_pronounced_has_no_phrases(text):
    assert phrases(text, "en-us") == []


def test_a_kokoro_voice_is_chosen_by_its_prefix(kokoro, tmp_path):
    speak("Hello.", tmp_path / "speech.wav", voice="kokoro:af_heart", kokoro_folder=kokoro)
    samples, rate = decode(tmp_path / "speech.wav")
    assert rate == 24_000
    np.testing.assert_allclose(samples[0], synthesise("Hello.", "af_heart", kokoro), atol=1e-4)


def test_both_synthesisers_can_speak_in_one_dialogue(kokoro, tmp_path):
    paths = tmp_path / "first.wav", tmp_path / "second.wav"
    speak_dialogue(
        turns("(s1) hello (s2) hello"),
        paths,
        speaker_voices=(None, "kokoro:af_heart"),
        kokoro_folder=kokoro,
    )
    (first, rate), (second, other) = map(decode, paths)
    assert (rate, other) == (24_000, 24_000)
    assert first.shape == second.shape
    assert first.any()
    assert second.any()
    assert not ((first != 0) & (second != 0)).any()


@pytest.mark.parametrize(("text", "fitting"), [("你好", "cmn"), ("नमस्ते", "hi"), ("안녕", "ko")])
def test_a_script_that_the_voices_language_does_not_use_is_refused(kokoro, tmp_path, text, fitting):
    out = tmp_path / "speech.wav"
    with pytest.raises(
        InvalidInput, match=f"which the voice kokoro:af_heart does not read; .* such as {fitting}"
    ):
        speak(text, out, voice="kokoro:af_heart", kokoro_folder=kokoro)


def test_it_fits_into_the_sandbox(kokoro, tmp_path):
    ours, theirs = tmp_path / "ours.wav", tmp_path / "theirs.wav"
    limits = SandboxLimits(memory_bytes=Settings().tts_memory_mb * 1_000_000)
    sandboxed(speak, limits=limits, subject="its synthesis")(
        text="Hello.", path=theirs, voice="kokoro:af_heart", kokoro_folder=kokoro
    )
    speak("Hello.", ours, voice="kokoro:af_heart", kokoro_folder=kokoro)
    np.testing.assert_allclose(decode(theirs)[0], decode(ours)[0], atol=1e-3)


def test_speech_beyond_the_limit_is_refused(kokoro, tmp_path):
    out = tmp_path / "speech.wav"
    with pytest.raises(InvalidInput, match=r"got speech of more than 0\.1 s"):
        speak("Hello.", out, voice="kokoro:af_heart", kokoro_folder=kokoro, max_seconds=0.1)


def test_nothing_is_synthesised_once_the_limit_is_reached(kokoro):
    assert len(synthesise("Hello.", "af_heart", kokoro, max_seconds=-1)) == 0


@pytest.mark.parametrize("name", ["af_hart", "jf_alpha", "../af_heart", ""])
def test_an_unknown_kokoro_voice_is_refused(kokoro, tmp_path, name):
    with pytest.raises(
        InvalidInput, match=r"^tts_audio\.human1_voice: got .*; no voice has that name; allowed: "
    ):
        speak("Hello.", tmp_path / "speech.wav", voice=f"kokoro:{name}", kokoro_folder=kokoro)


def test_its_voices_are_checked_at_submission_where_they_are_known(kokoro):
    def check(kokoro_folder: Path | None) -> None:
        voices = ("kokoro:af_hart", None)
        check_speech([Turn(1, "hello")], speaker_voices=voices, kokoro_folder=kokoro_folder)

    check(None)
    check(Path("nowhere"))
    with pytest.raises(InvalidInput, match=r"; did you mean kokoro:af_heart\?$"):
        check(kokoro)


def test_its_voices_are_listed_where_it_is_installed(kokoro, tmp_path):
    (tmp_path / "kokoro").symlink_to(kokoro)
    listed = voices_here(Settings(weights=tmp_path), "english")
    found = [voice.name for voice in listed if voice.synthesiser == "kokoro"]
    assert found == ["kokoro:af_heart", "kokoro:bm_george"]


@pytest.mark.parametrize("weights", [None, Path("nowhere")])
def test_without_kokoro_its_voices_are_refused(tmp_path, weights):
    with pytest.raises(InvalidInput, match="this farm has no Kokoro voices"):
        speak("Hello.", tmp_path / "speech.wav", voice="kokoro:af_heart", kokoro_folder=weights)
