// Small helpers. Everything that comes from documents, models or people becomes a text node, never markup.

export const $ = (id) => document.getElementById(id);

/** The API counts code points, JavaScript UTF-16 units: offsets are cut on an array of code points. */
export const points = (text) => Array.from(text);

export function element(name, className, ...children) {
  const e = document.createElement(name);
  if (className) e.className = className;
  e.append(...children); // strings become text nodes
  return e;
}

export function button(className, label, onClick) {
  const e = element("button", className, label);
  e.type = "button";
  if (onClick) e.addEventListener("click", onClick);
  return e;
}

export function show(node, visible) { node.hidden = !visible; }

export function notice(text) {
  $("notice").replaceChildren(...(text ? [text] : []));
  show($("notice"), Boolean(text));
}

export function complain(problem) {
  notice(problem.message + (problem.requestID && problem.status >= 500 ? ` (request ${problem.requestID})` : ""));
}

export const count = (n, one, many = one + "s") => `${n.toLocaleString()} ${n === 1 ? one : many}`;

/** " at 1:23–1:31", where a recording says it. */
export const spoken = (time) => (time ? ` at ${clock(time.start)}–${clock(time.end)}` : "");

function clock(seconds) {
  const t = Math.floor(seconds);
  const two = (n) => String(n).padStart(2, "0");
  return t < 3600 ? `${Math.floor(t / 60)}:${two(t % 60)}` : `${Math.floor(t / 3600)}:${two(Math.floor(t / 60) % 60)}:${two(t % 60)}`;
}

export const collection = () => $("collection").value || "default";
