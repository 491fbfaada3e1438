// The checks of one client: each a name and a function that throws, or returns what was seen. Prints a line a check:
// client, capability, ok or FAIL or "not served", and a detail, with tabs between.
const clean = (text) => String(text).replace(/\s+/g, " ").slice(0, 200);

export class NotServed extends Error {}

export async function checks(client, list) {
  let failed = 0;
  for (const [capability, run] of list) {
    let line;
    try {
      line = ["ok", (await run()) ?? ""];
    } catch (e) {
      line = e instanceof NotServed ? ["not served", e.message] : ["FAIL", `${e.name}: ${e.message}`];
      if (process.env.DEBUG && line[0] === "FAIL") console.error(e);
      failed += line[0] === "FAIL";
    }
    console.log([client, capability, ...line].map(clean).join("\t"));
  }
  return failed;
}

export function want(ok, seen) {
  if (!ok) throw new Error(`not as wanted: ${JSON.stringify(seen)?.slice(0, 300)}`);
}

/** served(model) throws NotServed where the host has no engine for the model. */
export async function served(base, model) {
  const res = await fetch(`${base}/client/v4/accounts/a/ai/models/search?search=${encodeURIComponent(model)}`, { headers: { authorization: `Bearer ${process.env.TOKEN}` } });
  const found = (await res.json()).result.find((m) => m.name === model);
  const property = (id) => found?.properties.find((p) => p.property_id === id)?.value;
  if (property("served") !== "true") throw new NotServed(property("setup") ?? "not in the catalogue");
  return property("served_by") ?? model;
}
