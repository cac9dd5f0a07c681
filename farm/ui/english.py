"""One language: Gradio has its own texts in that of the browser, which the page's are not."""

from __future__ import annotations

import gradio as gr

TEXTS = {
    "common.or": "or",
    "common.error": "Error",
    "upload_text.click_to_upload": "Click to Upload",
    "upload_text.drop_audio": "Drop Audio Here",
    "upload_text.drop_file": "Drop File Here",
    "audio.allow_recording_access": "Please allow access to the microphone for recording.",
    "audio.drop_to_upload": "Drop an audio file here to upload",
    "audio.no_microphone": "No microphone found",
    "audio.pause": "Pause",
    "audio.play": "Play",
    "audio.record": "Record",
    "audio.record_from_microphone": "Record from microphone",
    "audio.resume": "Resume",
    "audio.stop": "Stop",
    "audio.stop_recording": "Stop recording",
    "audio.waiting": "Waiting",
    "login.incorrect_credentials": "Incorrect Credentials",
    "login.login": "Login",
    "login.password": "password",
    "login.username": "username",
}
"""Those of Gradio's that a visitor of this page meets."""

LANGUAGES = (
    "ar ca ckb de es et eu fa fi fr he hi id ja ko lt nb nl pl pt pt-BR ro ru sv ta th tr uk ur uz "
    "zh-CN zh-TW"
)
"""In which Gradio has them."""


def english() -> gr.I18n:
    return gr.I18n(**dict.fromkeys(LANGUAGES.split(), TEXTS))
