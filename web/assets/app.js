// The page of Footnote: a conversation with one's documents. No build step: the browser loads these modules as they are.
//
// Parts that add to it: buttons beside the question go into #tools, buttons under an answer into turn.tools of the event
// "footnote:answered", which document gets with {turn} when an answer has ended.

import { $, collection, complain, element, notice, show } from "./dom.js";
import { answer, call, read } from "./server.js";
import { Turn } from "./turn.js";
import { clearSources, closeSources } from "./sources.js";
import { showHistory } from "./history.js";
import { takeDrops } from "./uploads.js";
import { takeSpeech } from "./speech.js";
import "./illustrate.js";

const page = {
  running: null, // AbortController of the answer being streamed
  turn: null,    // the turn being streamed
  thread: "",    // id of the conversation on show; "" before its first question
};

// ---- collections ------------------------------------------------------------------------------------------------

const address = () => new URLSearchParams(location.hash.slice(1));

async function loadCollections() {
  const { collections } = await read("/v1/collections");
  const wanted = address().get("c") || $("collection").value || "default";
  if (!collections.some((c) => c.name === wanted)) collections.push({ name: wanted, documents: 0 });
  $("collection").replaceChildren(...collections.map((c) => {
    const option = element("option", "", `${c.name} (${c.documents.toLocaleString()})`);
    option.value = c.name;
    option.selected = c.name === wanted;
    return option;
  }));
}

// ---- the conversation -------------------------------------------------------------------------------------------

/** Empties the page for another conversation. */
function clear() {
  page.running?.abort();
  page.running = page.turn = null;
  page.thread = "";
  $("turns").replaceChildren();
  notice("");
  clearSources();
  show($("stop"), false);
  show($("welcome"), true);
  show($("fresh"), false);
  document.title = "Footnote";
}

function addTurn(question) {
  const turn = new Turn(question);
  $("turns").append(turn.root);
  show($("welcome"), false);
  show($("fresh"), true);
  document.title = `${question} · Footnote`;
  return turn;
}

async function ask(question) {
  if (page.running) await stop();
  notice("");
  const run = new AbortController();
  const turn = addTurn(question);
  Object.assign(page, { running: run, turn });
  turn.begin();
  turn.root.scrollIntoView({ block: "start" });
  show($("stop"), true);
  try {
    const body = { collection: collection(), question, thread: page.thread || "new" };
    const onLost = () => turn.state("The connection was lost, going on…");
    for await (const event of answer(body, { signal: run.signal, onLost })) {
      if (page.running !== run) return;
      if (event.name === "start") follow(event.data.thread);
      turn.receive(event);
    }
  } catch (problem) {
    if (page.running !== run) return;
    if (run.signal.aborted) turn.state("Stopped.");
    else {
      turn.state("");
      complain(problem);
    }
  } finally {
    if (page.running === run) finish(turn);
  }
}

/** Keeps the conversation in the address, so that reloading shows it again. */
function follow(thread) {
  if (!thread || thread === page.thread) return;
  page.thread = thread;
  history.replaceState(null, "", "#" + new URLSearchParams({ t: thread, c: collection() }));
}

function finish(turn) {
  page.running = page.turn = null;
  show($("stop"), false);
  turn.finish();
  $("turns").dataset.ended = String(Number($("turns").dataset.ended || 0) + 1);
  document.dispatchEvent(new CustomEvent("footnote:answered", { detail: { turn } }));
}

/** The server would go on for a while, for a client that comes back: this one does not. */
async function stop() {
  const { running, turn } = page;
  running?.abort();
  if (turn?.id) await call(`/v1/answers/${turn.id}`, { method: "DELETE" }).catch(() => {});
}

async function openThread(id) {
  clear();
  page.thread = id;
  try {
    let cursor = "";
    do {
      const t = await read(`/v1/threads/${encodeURIComponent(id)}?` + new URLSearchParams(cursor ? { cursor } : {}));
      if (page.thread !== id) return;
      $("collection").value = t.collection;
      for (const stored of t.answers) {
        const turn = addTurn(stored.question);
        turn.restore(stored);
        document.dispatchEvent(new CustomEvent("footnote:answered", { detail: { turn } }));
      }
      cursor = t.next_cursor;
    } while (cursor);
    $("turns").lastElementChild?.scrollIntoView({ block: "start" });
    $("turns").dataset.restored = id;
  } catch (problem) {
    page.thread = "";
    complain(problem);
  }
}

function newConversation() {
  history.pushState(null, "", "#" + new URLSearchParams({ c: collection() }));
  clear();
  $("question").focus();
}

// ---- wiring -----------------------------------------------------------------------------------------------------

function submit() {
  const question = $("question").value.trim();
  if (!question) return;
  $("question").value = "";
  grow();
  ask(question);
}

/** The address may name a conversation (#t=), or a question to ask (#q=), and a collection (&c=). */
function fromAddress() {
  const { t, q, c } = Object.fromEntries(address());
  if (c) $("collection").value = c;
  if (t && t !== page.thread) openThread(t);
  else if (!t && (q || page.thread)) {
    clear();
    if (q) ask(q);
  }
}

/** The question's box is as high as its text, up to what the style allows. */
function grow() {
  const q = $("question");
  q.style.height = "auto";
  q.style.height = q.scrollHeight + "px";
}

$("ask").addEventListener("submit", (e) => { e.preventDefault(); submit(); });
$("question").addEventListener("input", grow);
$("question").addEventListener("keydown", (e) => {
  if (e.key === "Enter" && !e.shiftKey && !e.isComposing) { e.preventDefault(); submit(); }
});
$("stop").addEventListener("click", stop);
$("fresh").addEventListener("click", newConversation);
$("collection").addEventListener("change", newConversation);
$("past").addEventListener("click", () => showHistory(
  (t) => { location.hash = "#" + new URLSearchParams({ t: t.id, c: t.collection }); },
  (id) => { if (id === page.thread) newConversation(); }));
$("side-close").addEventListener("click", closeSources);
$("key").addEventListener("cancel", (e) => e.preventDefault());
document.addEventListener("keydown", (e) => {
  if (document.querySelector("dialog[open]")) return;
  if (e.key === "Escape" && $("side").dataset.open) closeSources();
  if (e.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) {
    e.preventDefault();
    $("question").focus();
  }
});
takeDrops(loadCollections);
takeSpeech(ask);
addEventListener("hashchange", fromAddress);
addEventListener("resize", grow);
loadCollections().catch(complain).then(fromAddress);
