// The snippets of the reference as a Worker, in the real Workers runtime. Around each there is only what it names and does
// not define: env, request, model, messages, input. console and JSON are watched, so that what a snippet prints or parses
// can be checked.
import { Miniflare } from "miniflare";
import { snippet } from "./brief.mjs";

const chat = "@cf/meta/llama-3.1-8b-instruct";
const weather = [
  { role: "system", content: "Call getWeather for questions about the weather." },
  { role: "user", content: "What is the weather in Oslo?" },
];

export const routes = {
  "Core Method": { model: chat, input: { prompt: "Say hello.", max_tokens: 20 }, then: "return Response.json({ response });" },
  "Text Generation": { then: "return Response.json({ result, printed });" },
  "Streaming": { model: chat, messages: [{ role: "user", content: "Count to three." }] },
  "Embeddings": { then: "return Response.json({ result, queryEmbed, doc1Embed, doc2Embed });" },
  "Function Calling": { model: chat, messages: weather, then: "return Response.json({ response, parsed });" },
  "Image Generation": {},
  "Speech Recognition": { then: "return Response.json({ result, printed });" },
  "Translation": { then: "return Response.json({ result, printed });" },
};

function source() {
  const handlers = Object.entries(routes).map(([heading, r]) => `
${JSON.stringify(heading)}: async (request, env) => {
const printed = [], parsed = [];
const console = { log: (...values) => printed.push(...values) };
const JSON = { parse: (text) => { const v = globalThis.JSON.parse(text); parsed.push(v); return v; } };
const model = ${JSON.stringify(r.model)}, messages = ${JSON.stringify(r.messages)}, input = ${JSON.stringify(r.input)};
${snippet(heading)}
${r.then ?? ""}
},`);
  return `
import { beside } from "beside";
const handlers = {${handlers.join("\n")}
...beside};
export default { async fetch(request, env) {
  const name = decodeURIComponent(new URL(request.url).pathname.slice(1));
  try {
    return await handlers[name](request, env);
  } catch (e) {
    return Response.json({ name: e.name, message: e.message, code: env.AI.lastRequestInternalStatusCode }, { status: 500 });
  }
} };`;
}

// What the binding has beside run(model, inputs).
const beside = `
export const beside = {
  models: async (request, env) => Response.json(await env.AI.models({ search: "bge-base", per_page: 5 })),
  toMarkdown: async (request, env) => {
    const file = (name, type, text) => ({ name, blob: new Blob([text], { type }) });
    const one = await env.AI.toMarkdown(file("a.html", "text/html", "<h1>Tea</h1><p>Hot.</p>"));
    const two = await env.AI.toMarkdown([file("a.csv", "text/csv", "a,b\\n1,2\\n"), file("b.bin", "application/x-none", "x")]);
    return Response.json({ one, two, supported: await env.AI.toMarkdown().supported() });
  },
  raw: async (request, env) => {
    const res = await env.AI.run("@cf/baai/bge-base-en-v1.5", { text: "tea" }, { returnRawResponse: true, gateway: { id: "any" }, extraHeaders: { "x-tried": "1" } });
    return Response.json({ status: res.status, type: res.headers.get("content-type"), rows: (await res.json()).data.length, id: env.AI.lastRequestId });
  },
  batch: async (request, env) => {
    const sent = await env.AI.run("@cf/baai/bge-base-en-v1.5", { requests: [{ text: ["tea"], external_reference: "a" }] }, { queueRequest: true });
    let got = sent;
    while (!got.responses) got = await env.AI.run("@cf/baai/bge-base-en-v1.5", { request_id: sent.request_id });
    return Response.json({ sent, got });
  },
  wrong: async (request, env) => { await env.AI.run("@cf/baai/bge-base-en-v1.5", { txt: "tea" }); },
  unknown: async (request, env) => { await env.AI.run("@cf/none/such", { prompt: "tea" }); },
  long: async (request, env) => { await env.AI.run("@cf/baai/bge-base-en-v1.5", { text: "tea ".repeat(600) }); },
  json: async (request, env) => Response.json(await env.AI.run(${JSON.stringify(chat)}, {
    prompt: "Describe Paris.", max_tokens: 100,
    response_format: { type: "json_schema", json_schema: { type: "object", required: ["city"], properties: { city: { type: "string", maxLength: 20 } } } },
  })),
  "audio stream": async (request, env) => Response.json(await env.AI.run("@cf/openai/whisper", { audio: { body: request.body, contentType: "audio/wav" } })),
};`;

export async function start(binding) {
  const mf = new Miniflare({
    compatibilityDate: "2026-07-30",
    ai: { binding: "AI", remoteProxyConnectionString: new URL(binding) },
    modules: [
      { type: "ESModule", path: "worker.mjs", contents: source() },
      { type: "ESModule", path: "beside", contents: beside },
    ],
  });
  await mf.ready;
  return mf;
}
