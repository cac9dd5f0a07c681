"""Bytes in a request: data URIs and base64, as browsers, tools and people write them."""

from __future__ import annotations

import base64
import random

import pytest

from farm.errors import InvalidInput
from farm.net.data_uri import decode_inline

CONTENT = b"pixels?>?"


@pytest.mark.parametrize(
    "text",
    [
        "data:image/png;base64,cGl4ZWxzPz4/",
        "DATA:image/png;name=x;BASE64,cGl4ZWxzPz4/",
        "data:,pixels%3F%3E%3F",
        "cGl4ZWxzPz4/",
        "cGl4ZWxzPz4_",
        "cGl4\r\nZWxzPz4/\n",
        "cGl4 ZWxz Pz4/",
        "\ufeffcGl4ZWxz\u200bPz4/",
        "data:video/webm;codecs=vp8,opus;base64,cGl4ZWxzPz4/",
        "data:video/webm; base64,cGl4ZWxzPz4/",
        "data:video/webm;base64 , cGl4ZWxzPz4/",
        "\ufeff data:image/png;base64,\ufeffcGl4ZWxzPz4/",
        "data:image/png;base64,cGl4ZWxzPz4/#fragment",
        "data:image/png;base64,%EF%BB%BFcGl4ZWxzPz4%2F",
    ],
)
def test_every_spelling_of_inline_data_is_decoded(text):
    assert decode_inline(text, field="cond_video", max_bytes=9) == CONTENT


def test_a_comma_before_the_first_semicolon_ends_the_header():
    text = "data:text/plain,pixels;base64,cGl4ZWxzPz4/"
    assert decode_inline(text, field="cond_video", max_bytes=99) == b"pixels;base64,cGl4ZWxzPz4/"


@pytest.mark.parametrize("width", [64, 76])
def test_base64_may_be_broken_into_lines_by_blanks(width):
    content = random.Random(1).randbytes(1000)
    text = base64.b64encode(content).decode()
    lines = [text[start : start + width] for start in range(0, len(text), width)]
    assert decode_inline(" ".join(lines), field="cond_video", max_bytes=1000) == content


@pytest.mark.parametrize("head", ["", "data:video/webm;base64,"])
@pytest.mark.parametrize("seed", range(20))
def test_base64_whose_plus_signs_became_blanks_is_refused_with_the_remedy(head, seed):
    text = base64.b64encode(random.Random(seed).randbytes(3000)).decode().replace("+", " ")
    with pytest.raises(InvalidInput, match=r"^cond_video: .* in a form, each \+ is written %2B"):
        decode_inline(head + text, field="cond_video", max_bytes=5000)


def test_missing_padding_is_accepted():
    assert decode_inline("YQ", field="cond_video", max_bytes=9) == b"a"


@pytest.mark.parametrize(
    "text",
    [
        "not base64!",
        "data:image/png;base64",
        "data:image/png;base64,@@@",
        "data:image/png;base64,müller",
        "YQ==YQ==x",
        "a",
        "/srv/müller/bild.png",
    ],
)
def test_text_that_is_neither_data_uri_nor_base64_is_refused_by_its_field(text):
    with pytest.raises(InvalidInput, match=r"^cond_video: "):
        decode_inline(text, field="cond_video", max_bytes=100)


@pytest.mark.parametrize("head", ["", "data:;base64,"])
def test_inline_data_above_the_limit_is_refused(head):
    with pytest.raises(InvalidInput, match=r"allowed: 9$"):
        decode_inline(head + base64.b64encode(b"x" * 10).decode(), field="cond_video", max_bytes=9)
