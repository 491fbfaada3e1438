// The reference's own snippets, word for word, in workerd with env.AI at the model host.
import { readFileSync } from "node:fs";
import { checks, served, want } from "./table.mjs";
import { start } from "./worker.mjs";

const base = process.env.MODELS_URL;
const mf = await start(`${base}/binding?token=${encodeURIComponent(process.env.TOKEN)}`);

async function call(name, body) {
  const res = await mf.dispatchFetch("http://worker/" + encodeURIComponent(name), body ? { method: "POST", body } : {});
  if (!res.headers.get("content-type")?.startsWith("application/json")) return res;
  const value = await res.json();
  if (res.status !== 200) throw Object.assign(new Error(value.message), value);
  return value;
}

async function fails(name, error, code) {
  const e = await call(name).then(() => null, (e) => e);
  want(e && e.name === error && e.code === code && e.message.startsWith(code + ": "), { name: e?.name, message: e?.message, code: e?.code });
  return `${e.name}: ${e.message}`;
}

const recording = () => readFileSync(process.env.RECORDING);
const recognised = (text) => { want(new RegExp(process.env.RECORDED, "i").test(text), text); return text; };

const failed = await checks("workerd", [
  ["core method", async () => { const { response } = await call("Core Method"); want(response.response.length > 0, response); return response.response; }],
  ["text", async () => {
    const { result, printed } = await call("Text Generation");
    want(result.response.length > 0 && printed[0] === result.response && result.usage.completion_tokens > 0 && result.usage.completion_tokens <= 100, result);
    return result.response;
  }],
  ["streaming", async () => {
    const res = await call("Streaming");
    want(res.headers.get("content-type") === "text/event-stream", res.headers.get("content-type"));
    const frames = (await res.text()).split("\n\n").filter((f) => f.startsWith("data: ")).map((f) => f.slice(6));
    want(frames.length > 3 && frames.at(-1) === "[DONE]", frames);
    const parsed = frames.slice(0, -1).map((f) => JSON.parse(f));
    want(parsed.at(-1).usage.completion_tokens > 0, parsed.at(-1));
    return `${frames.length} frames`;
  }],
  ["embeddings", async () => {
    const { result, ...vectors } = await call("Embeddings");
    const lengths = Object.values(vectors).map((v) => v.length);
    want(result.shape[0] === 3 && lengths.length === 3 && lengths.every((n) => n === result.shape[1]), result.shape);
    const by = await served(base, "@cf/baai/bge-base-en-v1.5");
    want(lengths[0] === (by === "all-MiniLM-L6-v2" ? 384 : 768), lengths);
    return `3 vectors of ${lengths[0]}, by ${by}`;
  }],
  ["tools", async () => {
    const { response, parsed } = await call("Function Calling");
    want(response.tool_calls?.[0].function.name === "getWeather" && typeof parsed[0]?.location === "string", response);
    return `getWeather(${JSON.stringify(parsed[0])})`;
  }],
  ["image", async () => {
    await served(base, "@cf/stabilityai/stable-diffusion-xl-base-1.0");
    const res = await call("Image Generation");
    const bytes = Buffer.from(await res.arrayBuffer());
    want(res.status === 200 && bytes.subarray(0, 8).toString("latin1") === "\x89PNG\r\n\x1a\n", bytes.subarray(0, 80).toString());
    return `PNG of ${bytes.readUInt32BE(16)}×${bytes.readUInt32BE(20)}`;
  }],
  ["speech", async () => {
    await served(base, "@cf/openai/whisper");
    const { result, printed } = await call("Speech Recognition", recording());
    want(printed[0] === result.text, printed);
    return recognised(result.text);
  }],
  ["speech, streamed", async () => {
    await served(base, "@cf/openai/whisper");
    return recognised((await call("audio stream", recording())).text);
  }],
  ["translation", async () => {
    await served(base, "@cf/meta/m2m100-1.2b");
    const { result, printed } = await call("Translation");
    want(/hola/i.test(result.translated_text) && printed[0] === result.translated_text, result);
    return result.translated_text;
  }],
  ["JSON mode", async () => { const r = await call("json"); want(typeof r.response?.city === "string", r); return JSON.stringify(r.response); }],
  ["models()", async () => { const r = await call("models"); want(r.length === 1 && r[0].name === "@cf/baai/bge-base-en-v1.5" && r[0].task.name === "Text Embeddings", r); }],
  ["toMarkdown()", async () => {
    const { one, two, supported } = await call("toMarkdown");
    want(one.format === "markdown" && one.data === "# Tea\n\nHot.\n" && one.id && two[0].data.startsWith("| a | b |") && two[1].format === "error", { one, two });
    want(supported.some((f) => f.extension === ".html"), supported);
  }],
  ["returnRawResponse", async () => { const r = await call("raw"); want(r.status === 200 && r.type === "application/json" && r.rows === 1 && r.id?.length > 10, r); }],
  ["batch", async () => { const { sent, got } = await call("batch"); want(sent.status === "queued" && got.responses[0].success && got.responses[0].external_reference === "a", got); }],
  ["error 7502", () => fails("unknown", "InferenceUpstreamError", 7502)],
  ["error 7504", () => fails("wrong", "InvalidInput", 7504)],
  ["error 7506", () => fails("long", "InferenceUpstreamError", 7506)],
]);
await mf.dispose();
process.exit(failed ? 1 : 0);
