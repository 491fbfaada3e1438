// The official cloudflare package's AI calls.
import Cloudflare from "cloudflare";
import { checks, served, want } from "./table.mjs";
import { readFileSync } from "node:fs";

const base = process.env.MODELS_URL;
const account_id = process.env.ACCOUNT_ID;
const client = new Cloudflare({ baseURL: `${base}/client/v4`, apiToken: process.env.TOKEN, maxRetries: 0, timeout: 600_000 });
const chat = "@cf/meta/llama-3.1-8b-instruct";

const failed = await checks("cloudflare (npm)", [
  ["text", async () => {
    const r = await client.ai.run(chat, { account_id, messages: [{ role: "user", content: "Say hello." }], max_tokens: 12 });
    want(r.response && r.usage.completion_tokens > 0, r);
    return r.response;
  }],
  ["streaming", async () => {
    const res = await client.ai.run(chat, { account_id, prompt: "Say hello.", max_tokens: 12, stream: true }).asResponse();
    const text = await res.text();
    want(res.headers.get("content-type") === "text/event-stream" && text.endsWith("data: [DONE]\n\n"), text.slice(-80));
    return `${text.split("\n\n").length - 1} frames`;
  }],
  ["embeddings", async () => {
    const r = await client.ai.run("@cf/baai/bge-base-en-v1.5", { account_id, text: ["tea", "rain"] });
    want(r.shape[0] === 2 && r.data[1].length === r.shape[1], r.shape);
    return `2 vectors of ${r.shape[1]}`;
  }],
  ["tools", async () => {
    const tools = [{ name: "getWeather", description: "Get weather for location", parameters: { type: "object", properties: { location: { type: "string", description: "a city", maxLength: 20 } }, required: ["location"] } }];
    const r = await client.ai.run(chat, { account_id, messages: [{ role: "user", content: "What is the weather in Oslo?" }], tools, tool_choice: "required", max_tokens: 128 });
    want(JSON.parse(r.tool_calls[0].function.arguments).location, r);
    return r.tool_calls[0].function.arguments;
  }],
  ["speech", async () => {
    const by = await served(base, "@cf/openai/whisper");
    const r = await client.ai.run("@cf/openai/whisper", { account_id, audio: Array.from(readFileSync(process.env.RECORDING)) });
    want(new RegExp(process.env.RECORDED, "i").test(r.text), r);
    return `${r.text} (${by})`;
  }],
  ["translation", async () => {
    await served(base, "@cf/meta/m2m100-1.2b");
    const r = await client.ai.run("@cf/meta/m2m100-1.2b", { account_id, text: "Hello", source_lang: "en", target_lang: "es" });
    want(/hola/i.test(r.translated_text), r);
    return r.translated_text;
  }],
  ["models()", async () => {
    const names = [];
    for await (const m of client.ai.models.list({ account_id, search: "bge", per_page: 2 })) names.push(m.name);
    want(names.includes("@cf/baai/bge-base-en-v1.5") && new Set(names).size === names.length && names.length > 2, names);
    const schema = await client.ai.models.schema.get({ account_id, model: chat });
    want(schema.input && schema.output, schema);
    return `${names.length} over several pages`;
  }],
  ["toMarkdown()", async () => {
    const formats = await client.ai.toMarkdown.supported({ account_id });
    want(formats.result.some((f) => f.extension === ".html"), formats.result);
  }],
  ["error 7502", async () => {
    const e = await client.ai.run("@cf/none/such", { account_id, prompt: "x" }).catch((e) => e);
    want(e.status === 404 && e.errors?.[0].code === 7502, { status: e?.status, errors: e?.errors });
    return e.message;
  }],
  ["error 10000", async () => {
    const stranger = new Cloudflare({ baseURL: `${base}/client/v4`, apiToken: "wrong", maxRetries: 0, timeout: 600_000 });
    const e = await stranger.ai.run(chat, { account_id, prompt: "x" }).catch((e) => e);
    want(e.status === 401 && e.errors?.[0].code === 10000, { status: e?.status });
  }],
]);
process.exit(failed ? 1 : 0);
