// A picture for an answer, on demand.

import { button, complain, element, notice } from "./dom.js";
import { post } from "./server.js";

const side = 512; // pixels: large enough to look at, four times faster than the model's own size

document.addEventListener("footnote:answered", ({ detail: { turn } }) => {
  if (!turn.done || !turn.text || turn.root.dataset.refused) return;
  const draw = button("quiet", "Illustrate", async () => {
    notice("");
    draw.disabled = true;
    draw.textContent = "Drawing…";
    try {
      const reply = await post("/v1/illustrate", { question: turn.question, answer: turn.text, width: side, height: side });
      await picture(turn, await reply.blob());
      draw.remove();
    } catch (problem) {
      complain(problem);
      draw.disabled = false;
      draw.textContent = "Illustrate";
    }
  });
  turn.tools.append(draw);
});

/** Shows a picture above the answer's buttons, when it is whole. */
async function picture(turn, blob) {
  const image = element("img");
  image.alt = `A picture for “${turn.question}”`;
  image.src = URL.createObjectURL(blob);
  try {
    await image.decode();
  } catch {
    throw new Error("The picture cannot be shown.");
  } finally {
    URL.revokeObjectURL(image.src);
  }
  turn.root.insertBefore(element("figure", "picture", image, element("figcaption", "", "Drawn by a model, not taken from the documents.")), turn.root.lastElementChild);
}
