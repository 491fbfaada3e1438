// The passages that an answer was made from: their scores, what of them is cited, and the words of the question in them.

import { $, button, element, points, show, spoken } from "./dom.js";
import { openDocument } from "./viewer.js";

let shown = null;

/** Shows a turn's passages. Where there is no room beside the answer, only when asked for. */
export function showSources(turn, asked) {
  shown = turn;
  show($("side"), turn.sources.length > 0);
  $("side-question").textContent = turn.question;
  $("sources").replaceChildren(...turn.sources.map((p) => passage(p, turn)));
  for (const other of document.querySelectorAll(".turn.selected")) other.classList.remove("selected");
  turn.root.classList.add("selected");
  if (!asked) return;
  $("side").dataset.open = "true";
  $("side-title").focus();
}

export function closeSources() {
  delete $("side").dataset.open;
  shown?.passages.focus();
}

export function clearSources() {
  shown = null;
  delete $("side").dataset.open;
  show($("side"), false);
  $("sources").replaceChildren();
}

function passage(p, turn) {
  const open = button("source", "", () => openDocument(p.document, p));
  open.append(
    element("span", "source-title", p.document.title || p.document.uri),
    element("span", "source-path", (p.heading.join(" › ") || p.document.uri) + spoken(p.time)));
  const text = element("p", "source-text", ...highlighted(p, turn));
  const more = button("quiet more-text", "Show all", () => {
    const all = text.classList.toggle("whole");
    more.textContent = all ? "Show less" : "Show all";
    more.setAttribute("aria-expanded", String(all));
  });
  more.setAttribute("aria-expanded", "false");
  show(more, points(p.text).length > 280);
  return element("li", "passage", open, text, more, scores(p));
}

/** The legs of the search that found the passage. */
function scores(p) {
  const d = p.scoring_details || {};
  const legs = [["meaning", d.vector], ["words", d.lexical]].filter(([, leg]) => leg);
  const bar = element("meter", "");
  bar.min = 0;
  bar.max = 1;
  bar.value = Math.max(0, Math.min(1, p.score));
  bar.setAttribute("aria-label", `score ${p.score.toFixed(2)}`);
  return element("div", "source-score", bar, element("span", "", `score ${p.score.toFixed(2)}`),
    ...legs.map(([name, leg]) => element("span", "", `${name} ${leg.score.toFixed(2)}, no. ${leg.rank}`)));
}

/** Marks what footnotes quote from the passage, and the question's words in it. */
function highlighted(p, turn) {
  const text = points(p.text);
  const cited = new Array(text.length).fill(false);
  for (const c of turn.citations) {
    if (c.document?.id === p.document.id) cited.fill(true, Math.max(0, c.start - p.start), Math.max(0, c.end - p.start));
  }
  const nodes = [];
  for (let i = 0; i < text.length;) {
    let j = i;
    while (j < text.length && cited[j] === cited[i]) j++;
    const inside = withWords(text.slice(i, j).join("").replace(/\n\s*\n/g, "\n"), turn.words ??= wordsOf(turn.question));
    if (cited[i]) nodes.push(element("mark", "cited", ...inside));
    else nodes.push(...inside);
    i = j;
  }
  return nodes;
}

const wordsOf = (question) => new Set((question.toLowerCase().match(/[\p{L}\p{N}_]+/gu) || []).filter((w) => w.length > 3).map(stem));
const stem = (w) => (w.length > 5 ? w.slice(0, -2) : w);

function withWords(text, words) {
  const nodes = [];
  let plain = "";
  for (const part of text.split(/([\p{L}\p{N}_]+)/u)) {
    const w = part.toLowerCase();
    if (w.length > 3 && words.has(stem(w))) {
      nodes.push(plain, element("b", "hit", part));
      plain = "";
    } else plain += part;
  }
  return [...nodes, plain].filter((n) => n !== "");
}
