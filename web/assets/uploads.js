// Adding documents: by the button, or dropped on the page.

import { $, collection, complain, element, show } from "./dom.js";
import { call } from "./server.js";

const uploadsAtOnce = 4;

export async function upload(files, afterwards) {
  const queue = Array.from(files);
  const worker = async () => {
    for (let file; (file = queue.shift());) await uploadOne(file);
  };
  await Promise.all(Array.from({ length: Math.min(uploadsAtOnce, queue.length) }, worker));
  afterwards().catch(complain);
}

async function uploadOne(file) {
  const status = element("span", "upload-status", "sending…");
  const row = element("div", "upload running", element("span", "upload-name", file.name), status);
  $("uploads").append(row);
  const tell = (text, kind) => { status.textContent = text; row.className = "upload " + kind; };
  try {
    const query = new URLSearchParams({ collection: collection(), uri: file.name });
    const options = { method: "POST", body: file, headers: { "Content-Type": file.type || "application/octet-stream" } };
    const put = await (await call("/v1/documents?" + query, options)).json();
    let doc = put;
    while (doc.status === "queued" || doc.status === "running") {
      tell(doc.waiting ? `waiting until ${new Date(doc.waiting.until).toLocaleTimeString()}: ${doc.waiting.reason}` : doc.status === "queued" ? "waiting…" : "reading…", "running");
      doc = await (await call(`/v1/documents/${put.id}?wait=5s`)).json();
    }
    if (doc.status === "error") tell(doc.error?.message || "failed", "error");
    else tell(put.outcome === "unchanged" ? "already here" : "ready", "completed");
  } catch (problem) {
    tell(problem.message, "error");
  }
}

let dragging = 0;
const hasFiles = (e) => e.dataTransfer?.types.includes("Files");

function dragged(change) {
  dragging = Math.max(0, dragging + change);
  $("drop-name").textContent = collection();
  show($("drop"), dragging > 0);
}

export function takeDrops(afterwards) {
  addEventListener("dragenter", (e) => { if (hasFiles(e)) { e.preventDefault(); dragged(1); } });
  addEventListener("dragover", (e) => { if (hasFiles(e)) e.preventDefault(); });
  addEventListener("dragleave", (e) => { if (hasFiles(e)) dragged(-1); });
  addEventListener("drop", (e) => {
    if (!hasFiles(e)) return;
    e.preventDefault();
    dragged(-dragging);
    upload(e.dataTransfer.files, afterwards);
  });
  $("add").addEventListener("click", () => $("files").click());
  $("files").addEventListener("change", () => { upload($("files").files, afterwards); $("files").value = ""; });
}
