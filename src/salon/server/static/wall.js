// What hangs on the wall: frames, placards, scores. Text enters the page as text, never as HTML.

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const HUES = 7; // of the style sheet

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function button(text, className, onclick) {
  const made = element("button", className, text);
  made.type = "button";
  made.addEventListener("click", onclick);
  return made;
}

// One work per method, in the order of the answer: [{method, version, pictures: [{url, seed}], warnings, spent}].
export function group(predictions) {
  const works = new Map();
  for (const row of predictions) {
    if (!works.has(row.method)) works.set(row.method, { method: row.method, version: String(row.model_version), pictures: [], warnings: [], spent: 0 });
    const work = works.get(row.method);
    const bytes = Uint8Array.from(atob(row.image_png_base64), (character) => character.charCodeAt(0));
    work.pictures.push({ url: URL.createObjectURL(new Blob([bytes], { type: "image/png" })), seed: row.seed });
    work.spent += row.milliseconds;
    work.warnings.push(...row.warnings);
  }
  return [...works.values()];
}

export function placeholder() {
  const item = element("li", "work waiting");
  item.append(element("div", "frame"));
  return item;
}

// One work of `shown` as a list item; while `shown.blind`, nothing in it tells who drew it.
export function hangWork(shown, work, { place, hue, vote }) {
  const letter = LETTERS[place % LETTERS.length];
  const name = shown.blind ? letter : work.method;
  const item = element("li", "work");
  const frame = element("div", work.pictures.length > 1 ? "frame several" : "frame");
  for (const { url } of work.pictures) {
    const image = element("img");
    image.src = url;
    image.alt = `${shown.prompt}, drawn by ${shown.blind ? `model ${letter}` : work.method}`;
    frame.append(image);
  }
  const placard = element("div", "placard");
  placard.tabIndex = -1;
  placard.append(nameOf("p", name, shown.blind ? null : hue));
  if (shown.blind) {
    placard.append(button(`${letter} is the best`, "vote", vote));
  } else {
    placard.append(facts(work));
  }
  placard.append(downloads(work, shown.blind ? name : `${name}-v${work.version}`, name));
  if (shown.choice === work.method) {
    item.classList.add("chosen");
    placard.append(element("p", "yours", "your choice"));
  }
  item.append(frame, placard);
  return item;
}

export function scoreRow({ method, votes, shown }, hue) {
  const row = element("tr");
  const head = nameOf("th", method, hue);
  head.scope = "row";
  const bar = element("div", "bar");
  const track = element("span", "track");
  const filled = element("i");
  filled.style.width = `${shown ? (100 * votes) / shown : 0}%`;
  track.append(filled);
  bar.append(track, `${votes} of ${shown}`);
  const cell = element("td");
  cell.append(bar);
  row.append(head, cell);
  return row;
}

function nameOf(tag, text, hue) {
  const made = element(tag, "name", text);
  if (hue !== null) made.dataset.hue = hue % HUES;
  return made;
}

function facts({ version, pictures, spent }) {
  const several = pictures.length > 1;
  const each = spent / pictures.length;
  const list = element("p", "facts");
  for (const fact of [
    `version ${version}`,
    `${each < 10 ? each.toFixed(1) : Math.round(each)} ms${several ? " each" : ""}`,
    several ? `seeds ${pictures[0].seed}–${pictures.at(-1).seed}` : `seed ${pictures[0].seed}`,
  ])
    list.append(element("span", "", fact));
  return list;
}

function downloads({ pictures }, file, name) {
  const several = pictures.length > 1;
  const line = element("p", "downloads", several ? "Download " : "");
  pictures.forEach(({ url, seed }, i) => {
    const link = element("a", "", several ? `${i + 1}` : "Download");
    link.href = url;
    link.download = `salon-${file}-seed${seed}.png`;
    link.setAttribute("aria-label", several ? `Download picture ${i + 1} by ${name}` : `Download the picture by ${name}`);
    line.append(link);
  });
  return line;
}
