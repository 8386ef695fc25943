// The gallery page: ask, show, vote.

import { changes, readLink, wholeNumber, writeLink } from "./link.js";
import { Problem, ask, keepToken } from "./server.js";
import { button, element, group, hangWork, placeholder, scoreRow } from "./wall.js";

const $ = (id) => document.getElementById(id);
const MAX_SEED = Number($("seed").dataset.max);
const SHOWN_WORDS = 400;
const REMEMBERED_VOTES = 200;
const TRIES = 30; // by itself, each after as long as the server asks for
const WORD = /[\p{L}\p{N}_]+/gu; // as the server splits a prompt

let methods = []; // [{method, version}] in the server's order
let known = null; // Set of words, where the server tells them all
let shown = null; // what hangs on the wall
let pending = null; // AbortController of the drawing under way
let timer = 0;

// ------------------------------------------------------------------------------------------------ small tools

const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
const randomName = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

function shuffled(items) {
  const list = [...items];
  for (let i = list.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [list[i], list[j]] = [list[j], list[i]];
  }
  return list;
}

// Storage may be switched off; the page then forgets, and works.
function recall(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`salon.${key}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function remember(key, value) {
  try {
    localStorage.setItem(`salon.${key}`, JSON.stringify(value));
  } catch {}
}

const versionsOf = (works) => Object.fromEntries(works.map(({ method, version }) => [method, version]));
const hueOf = (name) => Math.max(0, methods.findIndex(({ method }) => method === name));

// ------------------------------------------------------------------------------------------------- problems

function say(sentence) {
  $("status").textContent = sentence;
}

function forgetProblem() {
  clearTimeout(timer);
  $("problem").hidden = true;
}

// Shows what went wrong; `again` is tried by itself where the server said when, and by the button.
function showProblem(error, again, tries) {
  const problem = error instanceof Problem ? error : new Problem("This page failed. Reload it, please.");
  if (!(error instanceof Problem)) console.error(error);
  const waits = problem.retrySeconds !== null && tries < TRIES;
  const later = waits ? ` This page tries again in ${problem.retrySeconds} s.` : "";
  say("");
  $("problem").querySelector("p").textContent = problem.message + later;
  $("problem").classList.toggle("waits", waits);
  $("problem").hidden = false;
  $("again").hidden = problem.status >= 400 && problem.status < 500 && problem.status !== 401 && problem.status !== 429;
  $("again").onclick = () => (forgetProblem(), again(0));
  if (waits) timer = setTimeout(() => again(tries + 1), problem.retrySeconds * 1000);
}

// Asks for the token; resolves to whether one was given.
function askToken(wasRefused) {
  const gate = $("gate");
  if (wasRefused) $("gate-why").textContent = "The server refused that token.";
  $("token").value = "";
  gate.returnValue = "";
  gate.showModal();
  return new Promise((resolve) =>
    gate.addEventListener("close", () => {
      const given = gate.returnValue === "enter" && $("token").value !== "";
      if (given) keepToken($("token").value.trim());
      resolve(given);
    }, { once: true }),
  );
}

async function askWithToken(path, body, signal) {
  for (let refused = false; ; refused = true) {
    try {
      return await ask(path, body, signal);
    } catch (error) {
      if (error.status !== 401 && error.status !== 403) throw error;
      if (!(await askToken(refused))) throw error;
    }
  }
}

// -------------------------------------------------------------------------------------------------- drawing

async function draw(asked, { link = {}, push = true, tries = 0, follow = false } = {}) {
  forgetProblem();
  pending?.abort();
  const mine = (pending = new AbortController());
  fill(asked);
  $("works").setAttribute("aria-busy", "true");
  if (!shown) hangPlaceholders();
  $("notes").hidden = true;
  say("Drawing…");
  const row = { prompt: asked.prompt, method: "all", seed: asked.seed, num_images: asked.count };
  let answer;
  try {
    answer = await askWithToken("invocations", { dataframe_records: [row] }, mine.signal);
  } catch (error) {
    if (mine.signal.aborted) return;
    $("works").setAttribute("aria-busy", "false");
    if (!shown) $("works").replaceChildren();
    showProblem(error, (next) => draw(asked, { link, push, tries: next, follow }), tries);
    return;
  }
  if (mine.signal.aborted) return;
  hang(asked, answer.predictions, link);
  const url = location.pathname + location.search + shown.link;
  if (push && location.hash !== shown.link) history.pushState(null, "", url);
  if (follow && $("works").getBoundingClientRect().top > innerHeight * 0.6) $("wall").scrollIntoView();
}

function fill({ prompt, seed, count }) {
  $("prompt").value = prompt;
  $("seed").value = seed;
  $("count").value = count;
  hint();
}

function hang(asked, predictions, link) {
  shown?.works.forEach((work) => work.pictures.forEach(({ url }) => URL.revokeObjectURL(url)));
  const works = group(predictions);
  const versions = versionsOf(works);
  shown = { ...asked, works, versions, link: writeLink({ ...asked, versions }), ballot: randomName() };
  shown.choice = recall("votes", {})[shown.link] ?? null;
  shown.blind = $("blind").checked && works.length > 1 && !shown.choice;
  if (shown.blind) shown.works = shuffled(works);
  $("asked").textContent = asked.prompt;
  const linked = Object.keys(link).length > 0;
  const changed = linked ? changes(link, versions) : [];
  const notes = [...changed, ...new Set(works.flatMap((work) => work.warnings.map(remark)))];
  $("notes").replaceChildren(...notes.map((note) => element("li", "", note)));
  $("notes").hidden = notes.length === 0;
  $("scores").hidden = true;
  hangWorks();
  const models = works.length === 1 ? "One model" : `${works.length} models`;
  const drawn = linked && !changed.length ? "The same versions as in the link drew this again." : `${models} drew this with seed ${asked.seed}.`;
  say(shown.blind ? `${drawn} Which is the best?` : drawn);
}

function remark(warning) {
  const text = warning.charAt(0).toUpperCase() + warning.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

// ------------------------------------------------------------------------------------------------- the wall

function hangPlaceholders() {
  $("works").replaceChildren(...methods.map(placeholder));
  $("works").style.setProperty("--works", methods.length || 1);
}

function hangWorks() {
  const works = shown.works.map((work, place) => hangWork(shown, work, { place, hue: hueOf(work.method), vote: () => vote(work) }));
  $("works").setAttribute("aria-busy", "false");
  $("works").style.setProperty("--works", works.length);
  $("works").replaceChildren(...works);
  $("actions").hidden = false;
  $("reveal").hidden = !shown.blind;
}

// --------------------------------------------------------------------------------------------------- voting

async function vote(work) {
  const mine = shown;
  forgetProblem();
  try {
    const ballot = { ballot: mine.ballot, winner: work.method, versions: mine.versions };
    const { scores } = await askWithToken("votes", ballot);
    if (shown !== mine) return;
    shown.choice = work.method;
    const votes = Object.entries(recall("votes", {})).slice(1 - REMEMBERED_VOTES);
    remember("votes", Object.fromEntries([...votes, [mine.link, work.method]]));
    reveal();
    showScores(scores);
    say(`You chose ${work.method}. Now you see who drew what.`);
  } catch (error) {
    if (shown === mine) showProblem(error, () => vote(work), TRIES);
  }
}

function reveal() {
  shown.blind = false;
  hangWorks();
  const place = Math.max(0, shown.works.findIndex(({ method }) => method === shown.choice));
  $("works").children[place].querySelector(".placard").focus({ preventScroll: true });
}

function showScores(scores) {
  const share = ({ votes, shown: times }) => (times ? votes / times : 0);
  const best = [...scores].sort((a, b) => share(b) - share(a));
  $("scores").querySelector("tbody").replaceChildren(...best.map((score) => scoreRow(score, hueOf(score.method))));
  $("scores").hidden = false;
}

// ----------------------------------------------------------------------------------------- prompt and words

function hint() {
  const words = [...new Set($("prompt").value.toLowerCase().match(WORD) ?? [])];
  const strange = known ? words.filter((word) => !known.has(word)) : [];
  $("hint").textContent = strange.length ? `Never seen in training: ${strange.slice(0, 8).join(", ")}. The models will guess.` : "";
  $("hint").hidden = strange.length === 0;
}

function showWords(words) {
  if (!words.length) return;
  known = new Set(words);
  const letters = words.filter((word) => !/^[\d_]+$/.test(word));
  const scripts = [letters.filter((word) => !/\p{Script=Cyrillic}/u.test(word)), letters.filter((word) => /\p{Script=Cyrillic}/u.test(word))];
  const groups = scripts.filter((script) => script.length).map((script) => {
    const group = element("div", "chips small");
    group.append(...script.slice(0, SHOWN_WORDS).map((word) => button(word, "chip", () => addWord(word))));
    if (script.length > SHOWN_WORDS) group.append(element("span", "quiet", `and ${script.length - SHOWN_WORDS} more`));
    return group;
  });
  $("words").replaceChildren(...groups);
  $("vocabulary").hidden = false;
}

function addWord(word) {
  const prompt = $("prompt").value;
  $("prompt").value = prompt && !/\s$/.test(prompt) ? `${prompt} ${word}` : prompt + word;
  hint();
}

function wanted() {
  const prompt = $("prompt").value;
  const seed = $("seed").value.trim() === "" ? randomSeed() : wholeNumber($("seed").value.trim());
  if (!prompt.trim()) throw new Problem("Say what to draw first.", { status: 400 });
  if (seed === null || seed > MAX_SEED) throw new Problem(`The seed must be a whole number from 0 to ${MAX_SEED}.`, { status: 400 });
  return { prompt, seed, count: Number($("count").value) };
}

function drawWanted() {
  try {
    draw(wanted(), { follow: true });
  } catch (error) {
    showProblem(error, drawWanted, TRIES);
    (error.message.startsWith("The seed") ? $("seed") : $("prompt")).focus();
  }
}

// ---------------------------------------------------------------------------------------------------- start

function drawLinked() {
  const link = readLink(location.hash);
  if (!link) return false;
  draw({ prompt: link.prompt, seed: link.seed ?? randomSeed(), count: Math.min(Math.max(link.count, 1), 4) }, { link: link.versions, push: false });
  return true;
}

async function start(tries = 0) {
  forgetProblem();
  let models;
  try {
    models = await askWithToken("models");
  } catch (error) {
    showProblem(error, start, tries);
    return;
  }
  methods = models.methods;
  showWords(Array.isArray(models.words) ? models.words : Object.values(models.words ?? {}).flat());
  const examples = models.examples ?? [];
  $("examples").replaceChildren(
    ...examples.map((example) =>
      button(example, "chip", () => {
        $("prompt").value = example;
        drawWanted();
      }),
    ),
  );
  if (drawLinked()) return;
  if (examples.length) draw({ prompt: examples[0], seed: randomSeed(), count: 1 }, { push: false });
  else say("Their pictures will hang here.");
}

function connect() {
  $("blind").checked = recall("blind", true);
  $("smooth").checked = recall("smooth", false);
  $("works").classList.toggle("smooth", $("smooth").checked);
  $("ask").addEventListener("submit", (event) => (event.preventDefault(), drawWanted()));
  $("shuffle").addEventListener("click", () => {
    $("seed").value = randomSeed();
    drawWanted();
  });
  $("count").addEventListener("change", () => shown && drawWanted());
  $("prompt").addEventListener("input", hint);
  $("blind").addEventListener("change", () => {
    remember("blind", $("blind").checked);
    if (shown?.blind && !$("blind").checked) reveal();
  });
  $("smooth").addEventListener("change", () => {
    remember("smooth", $("smooth").checked);
    $("works").classList.toggle("smooth", $("smooth").checked);
  });
  $("reveal").addEventListener("click", () => {
    reveal();
    say("These are their names. Votes count only while names are hidden.");
  });
  $("copy").addEventListener("click", async () => {
    const url = location.origin + location.pathname + shown.link;
    try {
      await navigator.clipboard.writeText(url);
      say("The link is copied. It draws the same pictures as long as the same versions serve.");
    } catch {
      history.replaceState(null, "", url);
      say("The link stands in the address bar.");
    }
  });
  addEventListener("hashchange", drawLinked);
}

connect();
start();
