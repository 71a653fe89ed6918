const { dots, answers, live } = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg", SIZE = 420, MARGIN = 24;

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// A map of the database, the predictions as rings, and the answer as a filled circle.
function map(answer) {
  const found = answer.predictions.map((p) => p.at).filter(Boolean);
  const all = dots.concat(found);
  if (!all.length) return "";
  const xs = all.map((p) => p[0]), ys = all.map((p) => p[1]);
  const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = (SIZE - 2 * MARGIN) / Math.max(right - left, high - low, 1);
  const height = Math.max(120, (high - low) * scale + 2 * MARGIN + 16);
  const at = ([x, y]) => [MARGIN + (x - left) * scale, height - 16 - MARGIN - (y - low) * scale];
  const circle = (p, r, name) => { const [cx, cy] = at(p); return draw("circle", { cx: cx.toFixed(1), cy: cy.toFixed(1), r, class: name }); };
  const metres = [1, 2, 5].flatMap((m) => [0, 1, 2, 3, 4, 5].map((p) => m * 10 ** p)).filter((m) => m * scale <= 140).reduce((a, b) => Math.max(a, b), 1);
  const label = metres < 1000 ? `${metres} m` : `${metres / 1000} km`;
  const drawn = draw("svg", { viewBox: `0 0 ${SIZE} ${height.toFixed(0)}`, role: "img", "aria-label": answer.at ? "Map: the database, the nearest photos, and the place of the answer" : "Map: the database and the nearest photos" },
    draw("g", {}, ...dots.map((p) => circle(p, 1.5, "database"))),
    draw("g", {}, ...found.map((p) => circle(p, 7, "prediction"))),
    draw("path", { d: `M14 ${height - 14}v6h${(metres * scale).toFixed(1)}v-6`, class: "scale" }),
    draw("text", { x: 18, y: height - 12 }, label));
  if (answer.at) drawn.append(circle(answer.at, 5, "here"));
  return drawn;
}

function place(answer) {
  const line = make("p", {}, make("b", {}, answer.place_in_words));
  if (answer.lat != null) {
    const there = `https://www.openstreetmap.org/?mlat=${answer.lat}&mlon=${answer.lon}#map=18/${answer.lat}/${answer.lon}`;
    line.append(" ", make("a", { href: there, rel: "noreferrer" }, "open in a map"));
  }
  return line;
}

function card(answer) {
  const box = make("section", { class: "answer" }, make("h2", {}, answer.photo));
  if (answer.error) { box.append(make("p", { class: "error" }, answer.error)); return box; }
  box.append(make("img", { src: answer.picture, alt: `The photo ${answer.photo}` }));
  const said = make("div", {}, place(answer));
  if (answer.confidence_in_words) said.append(make("p", {}, answer.confidence_in_words));
  said.append(make("p", { class: "note" }, `confidence: ${answer.confidence_note}`), map(answer));
  box.append(said, make("div", { class: "nearest", tabindex: 0, role: "group", "aria-label": "Nearest photos" }, ...answer.predictions.map((p, k) => make("figure", {},
    p.picture ? make("img", { src: p.picture, alt: `Nearest photo ${k + 1}`, loading: "lazy" }) : "",
    make("figcaption", {}, `${k + 1}. similarity ${p.similarity.toFixed(3)}`, make("br"), p.image)))));
  return box;
}

const list = document.getElementById("answers"), status_ = document.getElementById("status");
for (const answer of answers) list.append(card(answer));

function encoded(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error(`${file.name} cannot be read`));
    reader.readAsDataURL(file);
  });
}

// One after the other, so that a server with limits answers each, and a photo that fails does not stop the others.
async function ask(files) {
  let done = 0;
  for (const file of files) {
    status_.textContent = `Locating ${file.name}, ${++done} of ${files.length} …`;
    let answer;
    try {
      const body = JSON.stringify({ photos: [await encoded(file)] });
      let response;
      for (;;) { // a server with a limit per minute says how long to wait
        response = await fetch("answers", { method: "POST", headers: { "Content-Type": "application/json" }, body });
        const wait = response.status === 429 ? Number(response.headers.get("Retry-After")) : 0;
        if (!wait) break;
        status_.textContent = `The server's limit is reached; trying again in ${wait} s …`;
        await new Promise((resolve) => setTimeout(resolve, 1000 * wait));
      }
      const content = await response.json();
      answer = response.ok ? { ...content.predictions[0], photo: file.name } : { photo: file.name, error: content.error };
    } catch (error) {
      answer = { photo: file.name, error: `no answer: ${error.message}` };
    }
    list.prepend(card(answer));
  }
  status_.textContent = `${done} photo${done === 1 ? "" : "s"} located`;
}

if (live) {
  const drop = document.getElementById("drop");
  for (const id of ["files", "camera"]) {
    const input = document.getElementById(id);
    input.addEventListener("change", () => { const chosen = [...input.files]; input.value = ""; ask(chosen); });
  }
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => { event.preventDefault(); drop.classList.toggle("over", name === "dragover"); });
  }
  drop.addEventListener("drop", (event) => ask([...event.dataTransfer.files]));
}
