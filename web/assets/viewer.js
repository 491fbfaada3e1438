// One document with the characters [span.start, span.end) marked and in view.

import { $, element, points, show, spoken } from "./dom.js";
import { call } from "./server.js";

/** claim, where a footnote was opened: {number, verdict, sentence}. */
export async function openDocument(doc, span, claim) {
  $("viewer-title").textContent = doc.title || doc.uri;
  $("viewer-uri").textContent = doc.uri + spoken(span.time);
  $("viewer-text").replaceChildren("Loading…");
  delete $("viewer").dataset.shown;
  show($("viewer-claim"), Boolean(claim));
  if (claim) {
    $("viewer-claim").className = "claim " + claim.verdict;
    $("viewer-claim").replaceChildren(element("span", "claim-mark", `${claim.number} · ${claim.verdict}`), element("q", "", claim.sentence));
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

$("viewer-close").addEventListener("click", () => $("viewer").close());
