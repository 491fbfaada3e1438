// workers-ai-provider with the ai SDK: over the binding (Miniflare's, as a Worker has it), and over REST, where the provider's
// own fetch option is the only way to name another host.
import { Miniflare } from "miniflare";
import { createWorkersAI } from "workers-ai-provider";
import { embedMany, generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { checks, want } from "./table.mjs";

const base = process.env.MODELS_URL;
const chat = "@cf/meta/llama-3.1-8b-instruct";
const mf = new Miniflare({ compatibilityDate: "2026-07-30", modules: true, script: "export default { fetch: () => new Response() }",
  ai: { binding: "AI", remoteProxyConnectionString: new URL(`${base}/binding?token=${process.env.TOKEN}`) } });

const ways = {
  "ai + workers-ai-provider, binding": createWorkersAI({ binding: (await mf.getBindings()).AI }),
  "ai + workers-ai-provider, REST": createWorkersAI({ accountId: process.env.ACCOUNT_ID, apiKey: process.env.TOKEN,
    fetch: (url, init) => fetch(String(url).replace("https://api.cloudflare.com", base), init) }),
};
const getWeather = tool({ description: "Get weather for location", inputSchema: z.object({ location: z.string().max(20) }), execute: async ({ location }) => `It is 12 degrees in ${location}.` });
const settings = { maxRetries: 0, maxOutputTokens: 128 };

async function collect(result) {
  const parts = [];
  for await (const p of result.fullStream) {
    if (p.type === "error") throw p.error;
    parts.push(p);
  }
  return parts;
}

let failed = 0;
for (const [name, workersai] of Object.entries(ways)) {
  const model = workersai(chat);
  failed += await checks(name, [
    ["text", async () => {
      const r = await generateText({ ...settings, model, prompt: "Say hello.", maxOutputTokens: 12 });
      want(r.text && r.usage.outputTokens > 0, { text: r.text, usage: r.usage });
      return r.text;
    }],
    ["streaming", async () => {
      const parts = await collect(streamText({ ...settings, model, prompt: "Say hello.", maxOutputTokens: 12 }));
      const deltas = parts.filter((p) => p.type === "text-delta");
      const end = parts.find((p) => p.type === "finish");
      want(deltas.length > 1 && end.totalUsage.outputTokens > 0 && ["stop", "length"].includes(end.finishReason), end);
      return deltas.map((p) => p.text).join("");
    }],
    ["embeddings", async () => {
      const r = await embedMany({ maxRetries: 0, model: workersai.textEmbedding("@cf/baai/bge-base-en-v1.5"), values: ["tea", "rain"] });
      want(r.embeddings.length === 2 && r.embeddings[0].length > 300, r.embeddings.length);
      return `2 vectors of ${r.embeddings[0].length}`;
    }],
    ["tools", async () => {
      // Two steps: the model calls, the SDK runs the function, the model answers with its result before it.
      const r = await generateText({ ...settings, model, tools: { getWeather }, prompt: "What is the weather in Oslo?", stopWhen: stepCountIs(2),
        prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }) });
      const call = r.steps[0].toolCalls[0];
      want(call.toolName === "getWeather" && call.input.location && r.steps[0].toolResults[0].output.startsWith("It is 12") && r.steps.length === 2 && r.text, r.steps.map((s) => s.content));
      return `${JSON.stringify(call.input)} → ${r.text}`;
    }],
    ["tools, streamed", async () => {
      const parts = await collect(streamText({ ...settings, model, tools: { getWeather }, toolChoice: "required", prompt: "What is the weather in Oslo?" }));
      const call = parts.find((p) => p.type === "tool-call");
      want(call?.input.location && parts.some((p) => p.type === "tool-result"), parts.map((p) => p.type));
      return JSON.stringify(call.input);
    }],
    ["JSON mode", async () => {
      const r = await generateObject({ ...settings, model, schema: z.object({ city: z.string().max(20) }), prompt: "Name a city." });
      want(r.object.city, r.object);
      return JSON.stringify(r.object);
    }],
    ["error 7502", async () => {
      const e = await generateText({ ...settings, model: workersai("@cf/none/such"), prompt: "x" }).catch((e) => e);
      want(/7502/.test(e.message), e);
      return e.message;
    }],
  ]);
}
await mf.dispose();
process.exit(failed ? 1 : 0);
