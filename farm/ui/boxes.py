"""The chosen face, with a box for each speaker drawn over it."""

from __future__ import annotations

import gradio as gr

from farm.ui.parts import read_part

# A JavaScript template literal, which Gradio evaluates in the browser.
FACE = """<div class="${open ? 'open' : ''}"><div class="stage">${value.face && value.video
? `<video class="face" src="${value.face}" muted playsinline preload="auto"></video>` : ''}${
value.face && !value.video
? `<img class="face" alt="the face" src="${value.face}">` : ''}<svg viewBox="0 0 1 1"></svg></div>
${open && value.face
? `<p>Draw a box around the first speaker, then one around the second, or enter pixels.</p>${
['person1', 'person2'].map((person, index) => `<fieldset aria-label="Speaker ${index + 1}">${
['left', 'top', 'right', 'bottom'].map((edge, at) => `<label>${edge} <input type="number" min="0"
name="${person}" value="${(value[person] ?? [])[at] ?? ''}"></label>`).join('')
}</fieldset>`).join('')}` : ''}</div>"""

FOR_FACE = """(file, boxes, restored) => {
  if (!file) return {};
  const isVideo = /\\.(mp4|mov|webm|mkv|m4v|avi)$/i.test(file.orig_name);
  const own = file.url === boxes.face ? boxes : {face: file.url, video: isVideo};
  return own.path || restored.path !== file.path ? own : {...own, ...restored};
}"""
"""The value of the boxes for the chosen file: of a new one those that are restored for it, if any.
Gradio reports both more than once, late and in any order.
"""


def boxes(face: gr.File, restored: gr.JSON) -> gr.HTML:
    """An input whose value holds `person1` and `person2`: [x_min, y_min, x_max, y_max] in pixels.

    It shows the chosen face; choosing another one clears the boxes, unless they are `restored` for
    the `path` of that face. They can be drawn while `open` is true.
    """
    drawn = gr.HTML(
        {},
        html_template=FACE,
        css_template=read_part("boxes.css"),
        js_on_load=read_part("boxes.js"),
        apply_default_css=False,
        open=False,
        elem_id="boxes",
    )
    changes = [face.change, restored.change]
    inputs = [face, drawn, restored]
    gr.on(changes, None, inputs, drawn, js=FOR_FACE, api_visibility="private", queue=False)
    return drawn
