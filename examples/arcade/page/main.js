// The page: menu, lists, and what happens when. The board draws, the link talks.

import { Board, COLOURS } from "/board.js";
import { listen } from "/controls.js";
import { Link } from "/link.js";

const SCORES_MS = 5000;
const SPEEDS = ["slow", "easy", "calm", "steady", "brisk", "quick", "fast", "wild", "no delay"];
const COLOUR_NAMES = ["green", "amber", "red", "blue", "violet", "pink", "olive", "teal"];

const at = (id) => document.getElementById(id);
const board = new Board(at("board"));

/** "watching", "playing" or "ended": what the player does; kept over a lost connection. */
let mode = "watching";
let lastScore = 0;
/** Why the next welcome is not the first: "moved" by the arena, "lost" on the way, or nothing. */
let back = null;
let scores = [];

const settings = load();
const link = new Link({ open, message, lost, latency });

function load() {
  const chosen = { name: "", colour: Math.floor(Math.random() * COLOURS.length), speed: 4 };
  try {
    const kept = JSON.parse(localStorage.getItem("arcade") ?? "{}");
    if (typeof kept.name === "string") chosen.name = kept.name;
    if (COLOURS[kept.colour]) chosen.colour = kept.colour;
    if (SPEEDS[kept.speed - 1]) chosen.speed = kept.speed;
  } catch {
    // Storage may be forbidden or hold something else: the defaults do.
  }
  return chosen;
}

function save() {
  try {
    localStorage.setItem("arcade", JSON.stringify(settings));
  } catch {
    // As above; the choice holds for this visit.
  }
}

// === The link ===

function open() {
  enter();
}

/** Says what the player does; a connection knows nothing of the one before it. */
function enter() {
  if (mode === "playing") {
    link.send({ t: "join", ...settings });
  } else {
    link.send({ t: "watch", speed: settings.speed });
  }
}

function message(message) {
  switch (message.t) {
    case "welcome":
      if (back) toast(backText(message.replica));
      back = null;
      lastScore = 0;
      board.welcome(message);
      at("replica").textContent = message.replica;
      at("room").textContent = `room ${message.room}, speed ${message.speed}`;
      showBest(message.you === null ? settings.speed : message.speed);
      break;
    case "state":
      board.state(message);
      at("watchers").textContent = message.watchers > 0 ? `${message.watchers} watching` : "";
      listPlayers();
      break;
    case "tick":
      ticked(message);
      break;
    case "move":
      back = "moved";
      break;
    case "full":
      toast("Every room is full. Try again in a moment.");
      if (mode === "playing") setMode("watching");
      break;
  }
}

function ticked(message) {
  const mine = message.dead?.find(([id]) => id === board.you);
  board.tick(message);
  const own = board.players.get(board.you);
  if (own && own.cells.length > 0) lastScore = own.score;
  if (message.dead || message.points) listPlayers();
  if (mine && mode === "playing") ended(mine[1], mine[2]);
}

function backText(replica) {
  const points = lastScore > 0 && mode === "playing" ? ` Your ${lastScore} points are kept.` : "";
  const what = back === "moved" ? "Your arena made room for a new one" : "The connection was lost";
  return `${what}: now on ${replica}.${points}`;
}

function lost() {
  back ??= "lost";
  at("replica").textContent = back === "moved" ? "moving" : "connecting";
  at("room").textContent = "";
  at("latency").textContent = "";
}

function latency(ms) {
  at("latency").textContent = `${ms} ms`;
}

// === Playing ===

function setMode(next) {
  mode = next;
  document.body.classList.toggle("playing", mode === "playing");
  at("menu").hidden = mode === "playing";
  at("leave").hidden = mode !== "playing";
  if (mode === "watching") at("ended").hidden = true;
}

function play() {
  settings.name = at("name").value.trim();
  save();
  // After an end the seat in the room is still there, unless the wishes have changed.
  const stay = mode === "ended" && board.you !== null && sameWish();
  setMode("playing");
  if (stay) link.send({ t: "again" });
  else enter();
  seated = { ...settings };
  at("board").focus({ preventScroll: true });
}

let seated = {};
const sameWish = () => ["name", "colour", "speed"].every((key) => seated[key] === settings[key]);

function ended(score, against) {
  const other = board.players.get(against)?.name;
  const how = against === "wall" ? "The wall" : against === "itself" ? "Your own tail" : other;
  const points = score === 1 ? "1 point" : `${score} points`;
  at("ended").textContent = `${how ?? "Another snake"} got you: ${points}`;
  at("ended").hidden = false;
  setMode("ended");
  at("play").textContent = "Play again";
  // Right after a game a key still means a turn; then it may start the next game.
  setTimeout(() => mode === "ended" && at("play").focus({ preventScroll: true }), 450);
  setTimeout(fetchScores, 300);
}

listen(at("board"), at("pad"), {
  playing: () => mode === "playing",
  turn: (d) => link.send({ t: "turn", d }),
  again: () => {
    if (mode !== "ended") return false;
    play();
    return true;
  },
});

at("menu").addEventListener("submit", (event) => {
  event.preventDefault();
  play();
});
at("watch").addEventListener("click", () => {
  setMode("watching");
  at("menu").hidden = true;
  at("leave").hidden = false;
  enter();
});
at("leave").addEventListener("click", () => {
  at("play").textContent = "Play";
  setMode("watching");
  enter();
});

// === The menu and the lists ===

function choices(box, name, values, chosen, take) {
  values.forEach(({ value, label, colour, title }) => {
    const option = document.createElement("label");
    const input = Object.assign(document.createElement("input"), {
      type: "radio", name, value, checked: value === chosen, ariaLabel: title,
    });
    const face = document.createElement("span");
    face.textContent = label;
    if (colour) face.style.background = colour;
    input.addEventListener("change", () => take(value));
    option.append(input, face);
    box.append(option);
  });
}

function chooseSpeed(speed) {
  settings.speed = speed;
  at("pace").textContent = SPEEDS[speed - 1];
  showBest(speed);
  save();
}

at("name").value = settings.name;
choices(at("colours"), "colour",
  COLOURS.map((colour, value) => ({ value, label: "", colour, title: COLOUR_NAMES[value] })),
  settings.colour, (colour) => {
    settings.colour = colour;
    save();
  });
choices(at("speeds"), "speed",
  SPEEDS.map((title, n) => ({ value: n + 1, label: n + 1, title: `${n + 1}, ${title}` })),
  settings.speed, chooseSpeed);
chooseSpeed(settings.speed);

function row(kind, parts) {
  const item = document.createElement("li");
  item.className = kind;
  item.append(...parts.map(([tag, text, colour]) => {
    const part = document.createElement(tag);
    part.textContent = text;
    if (colour) part.style.background = colour;
    return part;
  }));
  return item;
}

function listPlayers() {
  const players = [...board.players.values()].sort((a, b) => b.score - a.score || a.id - b.id);
  at("players").replaceChildren(...players.map((player) => {
    const kind = [player.id === board.you && "you", player.cells.length === 0 && "out"];
    const name = player.bot ? `${player.name} (bot)` : player.name;
    return row(kind.filter(Boolean).join(" "), [
      ["i", "", COLOURS[player.colour]], ["b", name], ["span", player.score],
    ]);
  }));
}

function showBest(speed) {
  at("best-speed").textContent = speed;
  const best = scores.filter((score) => score.speed === speed).slice(0, 10);
  const rows = best.map((score, n) => row("", [
    ["em", n + 1], ["b", score.name], ["span", score.score],
  ]));
  if (rows.length === 0) rows.push(row("none", [["b", "Nobody yet"]]));
  at("scores").replaceChildren(...rows);
}

async function fetchScores() {
  try {
    const answer = await fetch("/api/scores");
    if (!answer.ok) return;
    scores = (await answer.json()).scores;
    showBest(Number(at("best-speed").textContent));
  } catch {
    // The scores are away for a moment; the list stays as it was.
  }
}
setInterval(() => document.hidden || fetchScores(), SCORES_MS);
fetchScores();

let toastEnds;
function toast(text) {
  at("toast").textContent = text;
  at("toast").classList.add("shown");
  clearTimeout(toastEnds);
  toastEnds = setTimeout(() => at("toast").classList.remove("shown"), 4500);
}
