// The official openai package on /ai/v1.
import OpenAI, { NotFoundError } from "openai";
import { checks, want } from "./table.mjs";

const model = "@cf/meta/llama-3.1-8b-instruct";
const client = new OpenAI({ baseURL: `${process.env.MODELS_URL}/client/v4/accounts/${process.env.ACCOUNT_ID}/ai/v1`, apiKey: process.env.TOKEN, maxRetries: 0, timeout: 600_000 });
const messages = [{ role: "user", content: "Say hello." }];
const tools = [{ type: "function", function: { name: "getWeather", description: "Get weather for location",
  parameters: { type: "object", properties: { location: { type: "string", maxLength: 20 } }, required: ["location"] } } }];
const weather = [{ role: "user", content: "What is the weather in Oslo?" }];

const failed = await checks("openai (npm)", [
  ["text", async () => {
    const r = await client.chat.completions.create({ model, messages, max_tokens: 12 });
    want(r.choices[0].message.content && r.usage.completion_tokens > 0 && ["stop", "length"].includes(r.choices[0].finish_reason), r);
    return r.choices[0].message.content;
  }],
  ["streaming", async () => {
    let text = "", usage, reason;
    for await (const c of await client.chat.completions.create({ model, messages, max_tokens: 12, stream: true, stream_options: { include_usage: true } })) {
      text += c.choices[0]?.delta.content ?? "";
      reason = c.choices[0]?.finish_reason ?? reason;
      usage = c.usage ?? usage;
    }
    want(text && usage?.completion_tokens > 0 && reason, { text, usage, reason });
    return text;
  }],
  ["embeddings", async () => {
    const ask = (encoding_format) => client.embeddings.create({ model: "@cf/baai/bge-base-en-v1.5", input: ["tea", "rain"], encoding_format });
    const [plain, packed] = [await ask("float"), await ask(undefined)]; // the package asks for base64 by itself
    want(plain.data.length === 2 && plain.data[1].embedding.length > 300 && plain.usage.prompt_tokens > 0, plain.usage);
    want(packed.data[1].embedding.length === plain.data[1].embedding.length, packed.data[1].embedding.length);
    const off = Math.max(...packed.data[1].embedding.map((v, i) => Math.abs(v - plain.data[1].embedding[i])));
    want(off < 1e-3, off);
    return `2 vectors of ${plain.data[0].embedding.length}`;
  }],
  ["tools", async () => {
    const r = await client.chat.completions.create({ model, messages: weather, tools, tool_choice: "required", max_tokens: 128 });
    const call = r.choices[0].message.tool_calls[0];
    want(r.choices[0].finish_reason === "tool_calls" && call.id && call.type === "function" && JSON.parse(call.function.arguments).location, r.choices[0]);
    const answer = await client.chat.completions.create({ model, tools, tool_choice: "none", max_tokens: 30,
      messages: [...weather, r.choices[0].message, { role: "tool", tool_call_id: call.id, content: "It is 12 degrees and sunny." }] });
    want(answer.choices[0].message.content, answer);
    return `${call.function.arguments} → ${answer.choices[0].message.content}`;
  }],
  ["tools, streamed", async () => {
    const calls = [];
    const runner = client.chat.completions.stream({ model, messages: weather, tools, tool_choice: "required", max_tokens: 128 });
    runner.on("tool_calls.function.arguments.done", (c) => calls.push(c));
    const last = await runner.finalChatCompletion();
    want(JSON.parse(last.choices[0].message.tool_calls[0].function.arguments).location && calls.length === 1, last.choices[0]);
    return calls[0].arguments;
  }],
  ["JSON mode", async () => {
    const r = await client.chat.completions.create({ model, messages: [{ role: "user", content: "Name a city." }], max_tokens: 128,
      response_format: { type: "json_schema", json_schema: { name: "city", strict: true, schema: { type: "object", required: ["city"], additionalProperties: false, properties: { city: { type: "string", maxLength: 20 } } } } } });
    want(JSON.parse(r.choices[0].message.content).city, r.choices[0]);
    return r.choices[0].message.content;
  }],
  ["models()", async () => {
    const ids = (await client.models.list()).data.map((m) => m.id);
    want(ids.includes(model), ids);
    return `${ids.length} models`;
  }],
  ["error 7502", async () => {
    const e = await client.chat.completions.create({ model: "@cf/none/such", messages }).catch((e) => e);
    want(e instanceof NotFoundError && e.status === 404 && e.code === 7502, { name: e?.name, code: e?.code });
    return e.message;
  }],
]);
process.exit(failed ? 1 : 0);
