// Talking to the server: calls, the key, and answers as streams that outlive a connection.

import { $, show } from "./dom.js";

let key = sessionStorage.getItem("footnote-key") || "";

export class APIError extends Error {
  constructor(status, body) {
    super(body?.message || `The server answered ${status}.`);
    this.status = status;
    this.code = body?.code || "";
    this.requestID = body?.request_id || "";
  }
}

export async function call(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key) headers.set("Authorization", "Bearer " + key);
  let response;
  try {
    response = await fetch(path, { ...options, headers, redirect: "error", referrerPolicy: "no-referrer" });
  } catch (cause) {
    if (cause.name === "AbortError") throw cause;
    throw new APIError(0, { code: "unreachable", message: "The server does not answer. Is it still running?" });
  }
  if (response.status === 401) {
    await askKey(Boolean(key));
    return call(path, options);
  }
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw new APIError(response.status, body?.error);
  }
  return response;
}

export const post = (path, body, options = {}) =>
  call(path, { ...options, method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...options.headers } });

export const read = async (path) => (await call(path)).json();

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
      key = value;
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

// ---- answers ----------------------------------------------------------------------------------------------------

const maxReconnects = 6; // in a row, without an event between: 0.2 s, 0.4 s … 6.4 s, within the server's 30 s of patience

/**
 * Yields the events of an answer as {id, name, data}, to done or error. A connection that is lost is taken up again after
 * the last event; onLost tells how often that was tried.
 */
export async function* answer(body, { signal, onLost = () => {} }) {
  const stream = { Accept: "text/event-stream" };
  let response = await post("/v1/answer", body, { signal, headers: stream });
  let last = "";
  for (let tries = 0; ;) {
    try {
      response ??= await call(`/v1/answers/${last.split(":")[0]}/events`, { signal, headers: { ...stream, "Last-Event-ID": last } });
      for await (const event of events(response)) {
        last = event.id || last;
        tries = 0;
        yield event;
        if (event.name === "done" || event.name === "error") return;
      }
    } catch (problem) {
      const lost = !(problem instanceof APIError) || problem.status === 0 || problem.status === 409 || problem.status === 503;
      if (signal.aborted || !lost || !last) throw problem;
    }
    if (!last || tries === maxReconnects) throw new APIError(0, { code: "cut", message: "The answer broke off. Ask again." });
    response = null;
    onLost(++tries);
    await pause(100 * 2 ** tries, signal);
  }
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
  });
}

async function* events(response) {
  const decoder = new TextDecoder();
  let buffer = "";
  for await (const bytes of chunks(response.body)) {
    buffer += decoder.decode(bytes, { stream: true });
    for (let end; (end = buffer.indexOf("\n\n")) >= 0; buffer = buffer.slice(end + 2)) {
      const event = parseEvent(buffer.slice(0, end));
      if (event) yield event;
    }
  }
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
  const event = { id: "", name: "message", data: "" };
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) event.name = line.slice(7);
    else if (line.startsWith("id: ")) event.id = line.slice(4);
    else if (line.startsWith("data: ")) event.data += line.slice(6);
  }
  return event.data && { ...event, data: JSON.parse(event.data) };
}
