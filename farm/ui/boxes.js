// Boxes over the face, drawn with the mouse or a finger. props.value: {face: URL, video: bool, person1, person2}; a
// box is [x_min, y_min, x_max, y_max] in pixels of the source. The first drag sets person1, the second person2.
const find = (name) => element.querySelector(name);
let corner = null;
let size = [1, 1]; // of the source; kept, because each box replaces the element, which then has no size yet

function pixel(event) {
  const [width, height] = size, shown = find(".stage").getBoundingClientRect();
  const within = (at, length) => Math.min(Math.max(at, 0), 1) * length;
  return [
    Math.round(within((event.clientX - shown.left) / shown.width, width)),
    Math.round(within((event.clientY - shown.top) / shown.height, height)),
  ];
}

function box(event) {
  const [x, y] = pixel(event);
  return [Math.min(corner[0], x), Math.min(corner[1], y), Math.max(corner[0], x), Math.max(corner[1], y)];
}

function draw(svg, { person1, person2 }) {
  const thick = svg.viewBox.baseVal.width / 150;
  svg.innerHTML = [person1, person2].map((each, index) => each ? `<rect x="${each[0]}" y="${each[1]}"
    width="${each[2] - each[0]}" height="${each[3] - each[1]}" class="person${index + 1}" stroke-width="${thick}"/>
    <text x="${each[0] + 3 * thick}" y="${each[1] + 8 * thick}" font-size="${8 * thick}" class="person${index + 1}"
    >${index + 1}</text>` : "").join("");
}

// The value with one more box: person2's if only person1 has one, else person1's, as the only one.
function withBox(value, drawn) {
  if (value.person1 && !value.person2) return { ...value, person2: drawn };
  return { ...value, person1: drawn, person2: null };
}

function show() {
  const face = find(".face"), svg = find("svg");
  if (!face || !svg) return;
  if (face.naturalWidth || face.videoWidth) {
    size = [face.naturalWidth || face.videoWidth, face.naturalHeight || face.videoHeight];
  }
  svg.setAttribute("viewBox", `0 0 ${size.join(" ")}`);
  draw(svg, props.value);
}

for (const ready of ["load", "loadeddata"]) element.addEventListener(ready, show, true);
// Gradio's updates keep the face but remove the boxes drawn over it; values from elsewhere change attributes alone.
const observed = { childList: true, subtree: true, attributeFilter: ["src", "value"] };
new MutationObserver(() => find("rect") || show()).observe(element, observed);
element.addEventListener("error", () => find(".face")?.remove(), true);

element.addEventListener("pointerdown", (event) => {
  if (!props.open || !find(".face") || !event.target.closest(".stage")) return;
  event.preventDefault();
  corner = pixel(event);
});
element.addEventListener("pointermove", (event) => {
  if (!corner) return;
  draw(find("svg"), withBox(props.value, box(event)));
});
window.addEventListener("pointerup", (event) => {
  if (!corner) return;
  const drawn = box(event);
  corner = null;
  if (drawn[2] > drawn[0] && drawn[3] > drawn[1]) {
    props.value = withBox(props.value, drawn);
    trigger("change");
  }
  show();
});

// A box is entered once all of its numbers are.
element.addEventListener("change", ({ target }) => {
  if (!target.name) return;
  const edges = [...element.querySelectorAll(`input[name=${target.name}]`)].map((input) => input.value);
  if (edges.includes("")) return;
  props.value = { ...props.value, [target.name]: edges.map(Number) };
  trigger("change");
  show();
});
