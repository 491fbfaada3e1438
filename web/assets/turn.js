// One question with its answer: what was done with it, the sentences with their verdicts and footnotes, or why there are none.

import { button, count, element, points, show, spoken } from "./dom.js";
import { APIError } from "./server.js";
import { openDocument } from "./viewer.js";
import { showSources } from "./sources.js";

const verdicts = { supported: "found in", partly: "partly found in", unsupported: "not found in the documents" };

export const verdictOf = (v) => (Object.hasOwn(verdicts, v) ? v : "unsupported");

const refusals = {
  no_evidence: ["The documents do not tell.", "The best passages are not about this question, so no model was asked."],
  empty_collection: ["This collection is empty.", "Add documents to it first."],
  not_in_passages: ["The documents do not say.", "The model found no answer in the passages beside."],
  unsupported: ["No sentence of the answer was supported.", "What the model said stands in none of the passages, so it is not shown."],
  empty_answer: ["The model said nothing.", "Ask again, or in other words."],
};

/** Tells a step in words; parts are strings and {quote}. */
function describeStep(s) {
  const q = (text) => element("q", "", text);
  const parts = (s.parts || []).flatMap((p, i) => (i ? [i === s.parts.length - 1 ? " and " : ", ", q(p)] : [q(p)]));
  const note = s.note ? ` (${s.note})` : "";
  if (s.step === "tool" && s.tool) return describeCall(s, q);
  if (s.step === "translate" && !s.to) return [s.note.startsWith("answer: ") ? `Answer translated: ${s.note.slice(8)}` : `Translation: ${s.note}`];
  if (!s.to && !parts.length) return [`${s.step}${note}`];
  switch (s.step) {
    case "rewrite": return ["Understood as ", q(s.to), note];
    case "spelling": return ["Corrected ", q(s.from), " to ", q(s.to), note];
    case "decompose": return ["Searched for ", ...parts, note];
    case "translate": return ["Translated to ", q(s.to), note];
  }
  return [`${s.step}: `, ...(s.from ? [q(s.from), " → "] : []), ...(parts.length ? parts : [s.to]), note];
}

/** Tells what the model called while it looked for passages. */
function describeCall(s, q) {
  const found = s.note || (s.found?.length ? `${count(s.found.length, "passage")} found` : "nothing found");
  if (s.tool === "search" && s.arguments?.query) return ["The model searched for ", q(String(s.arguments.query)), ` (${found})`];
  if (s.tool === "read") return [`The model read on (${found})`];
  return [`The model looked (${s.tool}: ${found})`];
}

export class Turn {
  constructor(question) {
    this.question = question;
    this.id = "";
    this.text = "";
    this.sources = [];
    this.citations = [];
    this.done = null;
    this.asked = element("h2", "asked", question);
    this.steps = element("ul", "steps");
    this.status = element("p", "state");
    this.status.setAttribute("role", "status");
    this.answer = element("div", "answer");
    this.refusal = element("div", "refusal");
    this.legend = element("p", "legend", ...[["supported", "found in the documents"], ["partly", "partly found"], ["unsupported", "not found"]]
      .map(([v, text]) => element("span", "", element("i", "dot " + v), text)));
    this.passages = button("quiet passages", "", () => showSources(this, true));
    this.tools = element("span", "turn-tools"); // for buttons under the answer
    this.facts = element("span", "facts");
    for (const part of [this.steps, this.refusal, this.legend, this.passages]) show(part, false);
    this.root = element("article", "turn", this.asked, this.steps, this.status, this.answer, this.refusal, this.legend,
      element("div", "foot", this.passages, this.tools, this.facts));
    this.root.turn = this;
  }

  state(text) { this.status.textContent = text; }

  begin() {
    this.answer.classList.add("streaming");
    this.state("Searching…");
  }

  finish() {
    this.answer.classList.remove("streaming");
    this.root.dataset.ended = "true";
  }

  receive({ name, data }) {
    switch (name) {
      case "start": this.id = data.id; break;
      case "step": this.addStep(data); break;
      case "sources": this.addSources(data.sources); break;
      case "delta":
        this.text += data.text;
        this.state("");
        this.draw();
        break;
      case "citation":
        this.citations.push(data);
        this.draw();
        break;
      case "done": this.end(data); break;
      case "error": throw new APIError(502, data.error);
    }
  }

  /** Shows an answer that was kept. */
  restore(stored) {
    this.id = stored.id;
    if (stored.result) {
      stored.result.steps.forEach((s) => this.addStep(s));
      this.addSources(stored.result.sources);
      this.citations = stored.result.citations;
      this.end(stored.result);
    } else this.state(stored.error ? stored.error.message : "This answer is still being made.");
    this.finish();
  }

  addStep(step) {
    this.steps.append(element("li", "step", ...describeStep(step)));
    show(this.steps, true);
  }

  addSources(sources) {
    this.sources = sources;
    this.passages.replaceChildren(count(sources.length, "passage"));
    show(this.passages, sources.length > 0);
    showSources(this, false);
    this.state(sources.length ? `Reading ${count(sources.length, "passage")}…` : "");
  }

  end(done) {
    this.done = done;
    this.state("");
    this.text = done.answer || this.text;
    if (done.reason && done.reason !== "extractive") this.refuse(done); // extractive: sentences of the documents themselves
    else {
      this.draw();
      show(this.legend, this.citations.length > 0);
    }
    const t = done.timings;
    const seconds = (ms) => (ms < 1000 ? Math.round(ms) + " ms" : (ms / 1000).toFixed(1) + " s");
    this.facts.textContent = [
      `search ${seconds(t.search_ms)}`, t.first_token_ms ? `first word ${seconds(t.first_token_ms)}` : "", `all ${seconds(t.total_ms)}`,
      done.reason === "extractive" ? "quoted from the documents" : "",
      done.degraded ? "found by words alone: the embedding model is away" : "", done.cut ? "cut at the length limit" : "",
    ].filter(Boolean).join(" · ");
    showSources(this, false);
  }

  /** A refusal is an answer too: it says why, and how near the best passages came. */
  refuse(done) {
    this.answer.replaceChildren();
    const [title, why] = refusals[done.reason] || ["No answer from the documents.", ""];
    const scores = element("dl", "", ...[
      ["reason", done.reason], ["evidence", `${done.evidence.toFixed(2)} of ${done.threshold.toFixed(2)} needed`],
      ["best by meaning", done.best.vector.toFixed(2)], ["best by words", done.best.lexical.toFixed(2)],
    ].flatMap(([k, v]) => [element("dt", "", k), element("dd", "", v)]));
    const text = this.text.trim();
    this.refusal.replaceChildren(element("strong", "", title), ...(why ? [element("p", "", why)] : []),
      ...(text && text !== title ? [element("p", "said", text)] : []), scores);
    show(this.refusal, true);
    this.root.dataset.refused = done.reason;
  }

  /** The answer as sentences: each cited one is marked by its verdict and followed by its footnote. */
  draw() {
    const all = points(this.text);
    const nodes = [];
    let at = 0;
    this.citations.forEach((c, i) => {
      const start = Math.max(at, c.sentence.start);
      if (start > at) nodes.push(all.slice(at, start).join(""));
      if (c.sentence.end <= start) return;
      nodes.push(element("span", "sentence " + verdictOf(c.verdict), all.slice(start, c.sentence.end).join("")), this.footnote(c, i));
      at = c.sentence.end;
    });
    if (at < all.length) nodes.push(all.slice(at).join(""));
    this.answer.replaceChildren(...nodes);
  }

  footnote(c, i) {
    const v = verdictOf(c.verdict);
    const label = { supported: String(i + 1), partly: `${i + 1} partly`, unsupported: "not found" }[v];
    const where = c.document ? `${verdicts[v]} ${c.document.title || c.document.uri}${spoken(c.time)}` : verdicts.unsupported;
    const mark = button("mark " + v, label, () => openDocument(c.document, c, { number: i + 1, verdict: v, sentence: this.sentence(c) }));
    mark.title = where;
    mark.setAttribute("aria-label", `Footnote ${i + 1}: ${where}`);
    mark.disabled = !c.document;
    return element("sup", "", mark);
  }

  sentence(c) { return points(this.text).slice(c.sentence.start, c.sentence.end).join("").trim(); }
}
