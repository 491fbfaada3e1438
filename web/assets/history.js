// The conversations that the server keeps.

import { $, button, complain, count, element, show } from "./dom.js";
import { call, read } from "./server.js";

/** Lists the conversations; open(thread) is called with the chosen one, gone(id) with one that was deleted. */
export async function showHistory(open, gone) {
  $("history").showModal();
  $("threads").replaceChildren();
  show($("threads-none"), false);
  try {
    let cursor = "";
    do {
      const page = await read("/v1/threads?" + new URLSearchParams({ limit: 100, ...(cursor && { cursor }) }));
      $("threads").append(...page.threads.map((t) => item(t, open, gone)));
      cursor = page.next_cursor;
    } while (cursor && $("history").open);
    show($("threads-none"), !$("threads").children.length);
  } catch (problem) {
    $("history").close();
    complain(problem);
  }
}

function item(t, open, gone) {
  const when = new Date(t.updated_at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  const choose = button("thread", "", () => { $("history").close(); open(t); });
  choose.append(element("span", "thread-title", t.title || "Untitled"),
    element("span", "thread-facts", `${t.collection} · ${count(t.count, "question")} · ${when}`));
  const row = element("li", "", choose);
  const remove = button("quiet", "Delete", async () => {
    try {
      await call(`/v1/threads/${t.id}`, { method: "DELETE" });
      row.remove();
      show($("threads-none"), !$("threads").children.length);
      gone(t.id);
    } catch (problem) {
      $("history").close();
      complain(problem);
    }
  });
  remove.setAttribute("aria-label", `Delete the conversation ${t.title}`);
  row.append(remove);
  return row;
}

$("history-close").addEventListener("click", () => $("history").close());
