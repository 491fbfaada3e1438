// Reads the API reference: its snippets, by heading, exactly as they stand.
import { readFileSync } from "node:fs";

const file = new URL("../reference.md", import.meta.url);

/** snippets(): [{heading, language, code}] in the order of the reference. */
export function snippets() {
  const out = [];
  let heading = "", open = null;
  for (const line of readFileSync(process.env.REFERENCE ?? file, "utf8").split("\n")) {
    if (open) {
      if (line.startsWith("```")) { out.push({ ...open, code: open.lines.join("\n") }); open = null; } else open.lines.push(line);
    } else if (line.startsWith("```")) {
      open = { heading, language: line.slice(3), lines: [] };
    } else if (line.startsWith("## ")) {
      heading = line.slice(3);
    } else if (line.startsWith("**") && line.endsWith(":**")) {
      heading = line.slice(2, -3);
    }
  }
  return out;
}

/** snippet("Streaming"): the code under that heading. */
export function snippet(heading) {
  const found = snippets().filter((s) => s.heading === heading);
  if (found.length !== 1) throw new Error(`the reference has ${found.length} snippets under ${heading}, want 1`);
  return found[0].code;
}
