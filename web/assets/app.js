// The page of Footnote. Everything that comes from documents, models or people becomes a text node, never markup.

const $ = (id) => document.getElementById(id);
const page = {
  key: sessionStorage.getItem("footnote-key") || "",
  running: null, // AbortController of the answer being streamed
  current: null, // the answer on show
};

// ---- text -------------------------------------------------------------------------------------------------------

/** The API counts code points, JavaScript UTF-16 units: offsets are cut on an array of code points. */
const points = (text) => Array.from(text);

function element(name, className, ...children) {
  const e = document.createElement(name);
  if (className) e.className = className;
  e.append(...children); // strings become text nodes
  return e;
}

function show(node, visible) { node.hidden = !visible; }

function notice(text) {
  $("notice").replaceChildren(...(text ? [text] : []));
  show($("notice"), Boolean(text));
}

const count = (n, one, many = one + "s") => `${n.toLocaleString()} ${n === 1 ? one : many}`;

// ---- talking to the server --------------------------------------------------------------------------------------

class APIError extends Error {
  constructor(status, body) {
    super(body?.message || `The server answered ${status}.`);
    this.status = status;
    this.code = body?.code || "";
    this.requestID = body?.request_id || "";
  }
}

async function call(path, options = {}) {
  const headers = new Headers(options.headers);
  if (page.key) headers.set("Authorization", "Bearer " + page.key);
  let response;
  try {
    response = await fetch(path, { ...options, headers, redirect: "error", referrerPolicy: "no-referrer" });
  } catch (cause) {
    if (cause.name === "AbortError") throw cause;
    throw new APIError(0, { code: "unreachable", message: "The server does not answer. Is it still running?" });
  }
  if (response.status === 401) {
    await askKey(Boolean(page.key));
    return call(path, options);
  }
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw new APIError(response.status, body?.error);
  }
  return response;
}

const post = (path, body, options = {}) =>
  call(path, { ...options, method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...options.headers } });

let keyAsked = null;

/** Shows the key dialog once, however many calls are waiting for it. */
function askKey(wrong) {
  if (keyAsked) return keyAsked;
  show($("key-error"), wrong);
  $("key-value").value = "";
  $("key").showModal();
  keyAsked = new Promise((resolve) => {
    const save = () => {
      const value = $("key-value").value.trim();
      if (!value) return;
      page.key = value;
      sessionStorage.setItem("footnote-key", value);
      $("key").close();
      keyAsked = null;
      resolve();
    };
    $("key-save").onclick = save;
    $("key-value").onkeydown = (e) => { if (e.key === "Enter") { e.preventDefault(); save(); } };
  });
  return keyAsked;
}

/** Yields the events of a stream as {name, data}. A stream that stops without done or error throws. */
async function* events(response) {
  const decoder = new TextDecoder();
  let buffer = "";
  let ended = false;
  for await (const bytes of chunks(response.body)) {
    buffer += decoder.decode(bytes, { stream: true });
    for (let end; (end = buffer.indexOf("\n\n")) >= 0; buffer = buffer.slice(end + 2)) {
      const event = parseEvent(buffer.slice(0, end));
      if (!event) continue;
      ended ||= event.name === "done" || event.name === "error";
      yield event;
    }
  }
  if (!ended) throw new APIError(0, { code: "cut", message: "The answer broke off. Ask again." });
}

async function* chunks(stream) {
  const reader = stream.getReader();
  try {
    for (let r; !(r = await reader.read()).done;) yield r.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parseEvent(block) {
  let name = "message";
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  return data && { name, data: JSON.parse(data) };
}

// ---- collections ------------------------------------------------------------------------------------------------

async function loadCollections() {
  const { collections } = await (await call("/v1/collections")).json();
  const wanted = new URLSearchParams(location.hash.slice(1)).get("c") || $("collection").value || "default";
  const names = collections.map((c) => c.name);
  if (!names.includes(wanted)) collections.push({ name: wanted, documents: 0 });
  $("collection").replaceChildren(...collections.map((c) => {
    const option = element("option", "", `${c.name} (${c.documents.toLocaleString()})`);
    option.value = c.name;
    option.selected = c.name === wanted;
    return option;
  }));
}

// ---- asking -----------------------------------------------------------------------------------------------------

async function ask(question) {
  page.running?.abort();
  const run = new AbortController();
  page.running = run;
  page.current = { text: "", sources: [], citations: [] };
  begin(question);
  try {
    const body = { collection: $("collection").value || "default", question };
    const response = await post("/v1/answer", body, { signal: run.signal, headers: { Accept: "text/event-stream" } });
    for await (const event of events(response)) {
      if (page.running !== run) return;
      receive(event);
    }
  } catch (problem) {
    if (page.running !== run) return;
    if (problem.name === "AbortError") state("Stopped.");
    else fail(problem);
  } finally {
    if (page.running === run) finish();
  }
}

function begin(question) {
  notice("");
  show($("welcome"), false);
  show($("result"), true);
  show($("refusal"), false);
  show($("legend"), false);
  show($("side"), false);
  show($("stop"), true);
  $("asked").textContent = question;
  $("answer").replaceChildren();
  $("facts").textContent = "";
  $("sources").replaceChildren();
  $("answer").classList.add("streaming");
  document.title = `${question} · Footnote`;
  state("Searching…");
}

function finish() {
  page.running = null;
  show($("stop"), false);
  $("answer").classList.remove("streaming");
  $("result").dataset.ended = String(Number($("result").dataset.ended || 0) + 1);
}

const state = (text) => { $("state").textContent = text; };

function fail(problem) {
  state("");
  notice(problem.message + (problem.requestID && problem.status >= 500 ? ` (request ${problem.requestID})` : ""));
}

function receive({ name, data }) {
  const now = page.current;
  switch (name) {
    case "sources":
      now.sources = data.sources;
      drawSources();
      state(data.sources.length ? "Reading " + count(data.sources.length, "passage") + "…" : "");
      break;
    case "delta":
      now.text += data.text;
      state("");
      drawAnswer();
      break;
    case "citation":
      now.citations.push(data);
      drawAnswer();
      break;
    case "done":
      end(data);
      break;
    case "error":
      throw new APIError(502, data.error);
  }
}

function end(done) {
  const now = page.current;
  state("");
  now.text = done.answer || now.text;
  if (done.reason && done.reason !== "extractive") return refuse(done); // extractive: sentences of the documents themselves
  drawAnswer();
  show($("legend"), now.citations.length > 0);
  const t = done.timings;
  $("facts").textContent = [
    `search ${Math.round(t.search_ms)} ms`, `first word ${Math.round(t.first_token_ms)} ms`, `all ${t.total_ms < 1000 ? Math.round(t.total_ms) + " ms" : (t.total_ms / 1000).toFixed(1) + " s"}`,
    done.degraded ? "found by words alone: the embedding model is away" : "", done.cut ? "cut at the length limit" : "",
  ].filter(Boolean).join(" · ");
}

const reasons = {
  no_evidence: "The documents do not tell.",
  empty_collection: "This collection is empty.",
};

/** A refusal is an answer too: it says why, and how near the best passages came. */
function refuse(done) {
  $("answer").replaceChildren();
  const title = reasons[done.reason] || "No answer from the documents.";
  const scores = element("dl", "", ...[
    ["reason", done.reason], ["evidence", `${done.evidence.toFixed(2)} of ${done.threshold.toFixed(2)} needed`],
    ["best by meaning", done.best.vector.toFixed(2)], ["best by words", done.best.lexical.toFixed(2)],
  ].flatMap(([k, v]) => [element("dt", "", k), element("dd", "", v)]));
  const text = page.current.text.trim();
  $("refusal").replaceChildren(element("strong", "", title), ...(text && text !== title ? [element("p", "", text)] : []), scores);
  show($("refusal"), true);
}

/** The answer as sentences: each cited one is marked by its verdict and followed by its footnote. */
function drawAnswer() {
  const { text, citations } = page.current;
  const all = points(text);
  const nodes = [];
  let at = 0;
  citations.forEach((c, i) => {
    const start = Math.max(at, c.sentence.start);
    if (start > at) nodes.push(all.slice(at, start).join(""));
    if (c.sentence.end <= start) return;
    nodes.push(element("span", "sentence " + verdictClass(c.verdict), all.slice(start, c.sentence.end).join("")), footnote(c, i));
    at = c.sentence.end;
  });
  if (at < all.length) nodes.push(all.slice(at).join(""));
  $("answer").replaceChildren(...nodes);
}

const verdicts = { supported: "found in", partly: "partly found in", unsupported: "not found in the documents" };
const verdictClass = (v) => (Object.hasOwn(verdicts, v) ? v : "unsupported");

/** " at 1:23–1:31", where a recording says it. */
const spoken = (time) => (time ? ` at ${clock(time.start)}–${clock(time.end)}` : "");

function clock(seconds) {
  const t = Math.floor(seconds);
  const two = (n) => String(n).padStart(2, "0");
  return t < 3600 ? `${Math.floor(t / 60)}:${two(t % 60)}` : `${Math.floor(t / 3600)}:${two(Math.floor(t / 60) % 60)}:${two(t % 60)}`;
}

function footnote(c, i) {
  const v = verdictClass(c.verdict);
  const mark = element("button", "mark " + v, c.source ? String(i + 1) : "?");
  mark.type = "button";
  const where = c.document ? `${verdicts[v]} ${c.document.title || c.document.uri}${spoken(c.time)}` : verdicts.unsupported;
  mark.title = where;
  mark.setAttribute("aria-label", `Footnote ${i + 1}: ${where}`);
  if (c.document) mark.addEventListener("click", () => openDocument(c.document, c, i + 1));
  else mark.disabled = true;
  return element("sup", "", mark);
}

function drawSources() {
  show($("side"), page.current.sources.length > 0);
  $("sources").replaceChildren(...page.current.sources.map((p) => {
    const open = element("button", "source",
      element("span", "source-title", p.document.title || p.document.uri),
      element("span", "source-path", (p.heading.join(" › ") || p.document.uri) + spoken(p.time)),
      element("span", "source-text", points(p.text).slice(0, 220).join("") + (points(p.text).length > 220 ? "…" : "")),
      element("span", "source-score", `score ${p.score.toFixed(2)}`));
    open.type = "button";
    open.addEventListener("click", () => openDocument(p.document, { start: p.start, end: p.end, time: p.time }));
    return element("li", "", open);
  }));
}

// ---- one document -----------------------------------------------------------------------------------------------

/** Shows a document with the characters [span.start, span.end) marked and in view. */
async function openDocument(doc, span, number) {
  $("viewer-title").textContent = doc.title || doc.uri;
  $("viewer-uri").textContent = doc.uri + spoken(span.time);
  $("viewer-text").replaceChildren("Loading…");
  delete $("viewer").dataset.shown;
  show($("viewer-claim"), Boolean(span.verdict));
  if (span.verdict) {
    const v = verdictClass(span.verdict);
    const sentence = points(page.current.text).slice(span.sentence.start, span.sentence.end).join("");
    $("viewer-claim").className = "claim " + v;
    $("viewer-claim").replaceChildren(element("span", "claim-mark", `${number} · ${v}`), element("q", "", sentence.trim()));
  }
  if (!$("viewer").open) $("viewer").showModal();
  try {
    const text = points(await (await call(`/v1/documents/${encodeURIComponent(doc.id)}/text`)).text());
    const quote = element("mark", "quote", text.slice(span.start, span.end).join(""));
    quote.id = "quote";
    $("viewer-text").replaceChildren(text.slice(0, span.start).join(""), quote, text.slice(span.end).join(""));
    quote.scrollIntoView({ block: "center" });
    $("viewer-text").focus({ preventScroll: true });
    $("viewer").dataset.shown = "true";
  } catch (problem) {
    $("viewer-text").replaceChildren(problem.message);
  }
}

// ---- adding documents -------------------------------------------------------------------------------------------

const uploadsAtOnce = 4;

async function upload(files) {
  const queue = Array.from(files);
  const worker = async () => {
    for (let file; (file = queue.shift());) await uploadOne(file);
  };
  await Promise.all(Array.from({ length: Math.min(uploadsAtOnce, queue.length) }, worker));
  loadCollections().catch(fail);
}

async function uploadOne(file) {
  const status = element("span", "upload-status", "sending…");
  const row = element("div", "upload running", element("span", "upload-name", file.name), status);
  $("uploads").append(row);
  const tell = (text, kind) => { status.textContent = text; row.className = "upload " + kind; };
  try {
    const query = new URLSearchParams({ collection: $("collection").value || "default", uri: file.name });
    const options = { method: "POST", body: file, headers: { "Content-Type": file.type || "application/octet-stream" } };
    const put = await (await call("/v1/documents?" + query, options)).json();
    let doc = put;
    while (doc.status === "queued" || doc.status === "running") {
      tell(doc.status === "queued" ? "waiting…" : "reading…", "running");
      doc = await (await call(`/v1/documents/${put.id}?wait=20s`)).json();
    }
    if (doc.status === "error") tell(doc.error?.message || "failed", "error");
    else tell(put.outcome === "unchanged" ? "already here" : "ready", "completed");
  } catch (problem) {
    tell(problem.message, "error");
  }
}

// ---- wiring -----------------------------------------------------------------------------------------------------

function submit() {
  const question = $("question").value.trim();
  if (!question) return;
  const hash = "#" + new URLSearchParams({ q: question, c: $("collection").value || "default" });
  if (location.hash === hash) ask(question);
  else location.hash = hash; // asks by the hashchange
}

function fromAddress() {
  const question = new URLSearchParams(location.hash.slice(1)).get("q");
  if (!question) return;
  $("question").value = question;
  grow();
  ask(question);
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
$("stop").addEventListener("click", () => page.running?.abort());
$("viewer-close").addEventListener("click", () => $("viewer").close());
$("key").addEventListener("cancel", (e) => e.preventDefault());
$("add").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", () => { upload($("files").files); $("files").value = ""; });
document.addEventListener("keydown", (e) => {
  if (e.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName) && !document.querySelector("dialog[open]")) {
    e.preventDefault();
    $("question").focus();
  }
});

let dragging = 0;
const hasFiles = (e) => e.dataTransfer?.types.includes("Files");
function dragged(change) {
  dragging = Math.max(0, dragging + change);
  $("drop-name").textContent = $("collection").value || "default";
  show($("drop"), dragging > 0);
}
addEventListener("dragenter", (e) => { if (hasFiles(e)) { e.preventDefault(); dragged(1); } });
addEventListener("dragover", (e) => { if (hasFiles(e)) e.preventDefault(); });
addEventListener("dragleave", (e) => { if (hasFiles(e)) dragged(-1); });
addEventListener("drop", (e) => {
  if (!hasFiles(e)) return;
  e.preventDefault();
  dragged(-dragging);
  upload(e.dataTransfer.files);
});

addEventListener("hashchange", fromAddress);
addEventListener("resize", grow);
loadCollections().catch(fail).then(fromAddress);
