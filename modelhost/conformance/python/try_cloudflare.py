"""The official cloudflare package's AI calls."""

import json
import re

from cloudflare import AuthenticationError, Cloudflare, NotFoundError

from table import ACCOUNT, BASE, CHAT, EMBED, IMAGE, TOKEN, TRANSLATE, WHISPER, checks, recognised, recording, served, want

client = Cloudflare(base_url=f"{BASE}/client/v4", api_token=TOKEN, max_retries=0, timeout=600)


def run(model, **inputs):
    return client.ai.run(model, account_id=ACCOUNT, **inputs)


def text():
    r = run(CHAT, messages=[{"role": "user", "content": "Say hello."}], max_tokens=12)
    said = r["response"] if isinstance(r, dict) else r.response
    want(said, r)
    return said


def streaming():
    with client.ai.with_streaming_response.run(CHAT, account_id=ACCOUNT, prompt="Say hello.", max_tokens=12, stream=True) as r:
        body = r.read().decode()
    want(r.headers["content-type"] == "text/event-stream" and body.endswith("data: [DONE]\n\n"), body[-80:])
    return f"{body.count('data: ')} frames"


def embeddings():
    r = run(EMBED, text=["tea", "rain"])
    shape = r["shape"] if isinstance(r, dict) else r.shape
    want(shape[0] == 2 and shape[1] > 300, shape)
    return f"2 vectors of {shape[1]}"


def tools():
    properties = {"location": {"type": "string", "description": "a city", "maxLength": 20}}
    function = {"name": "getWeather", "description": "Get weather for location",
                "parameters": {"type": "object", "properties": properties, "required": ["location"]}}
    raw = client.ai.with_raw_response.run(
        CHAT, account_id=ACCOUNT, messages=[{"role": "user", "content": "What is the weather in Oslo?"}],
        tools=[{"type": "function", "function": function}], max_tokens=128, extra_body={"tool_choice": "required"})
    call = json.loads(raw.text())["result"]["tool_calls"][0]
    want(json.loads(call["function"]["arguments"])["location"], call)
    return call["function"]["arguments"]


def image():
    served(IMAGE)
    raw = client.ai.with_raw_response.run(IMAGE, account_id=ACCOUNT, prompt="Mountain sunset", num_steps=2)
    want(raw.read().startswith(b"\x89PNG"), raw.headers)


def speech():
    served(WHISPER)
    r = run(WHISPER, audio=list(recording()))
    return recognised(r["text"] if isinstance(r, dict) else r.text)


def translation():
    served(TRANSLATE)
    r = run(TRANSLATE, text="Hello", source_lang="en", target_lang="es")
    said = r["translated_text"] if isinstance(r, dict) else r.translated_text
    want(re.search("hola", said, re.I), said)
    return said


def models():
    listed = client.ai.models.list(account_id=ACCOUNT, search="bge-base")
    names = [m["name"] if isinstance(m, dict) else m.name for m in listed]
    want(EMBED in names, names)


def error_7502():
    try:
        run("@cf/none/such", prompt="x")
    except NotFoundError as e:
        want(e.body["errors"][0]["code"] == 7502, e.body)
        return e
    raise AssertionError("no error")


def error_10000():
    try:
        Cloudflare(base_url=f"{BASE}/client/v4", api_token="wrong", max_retries=0, timeout=600).ai.run(CHAT, account_id=ACCOUNT, prompt="x")
    except AuthenticationError as e:
        want(e.body["errors"][0]["code"] == 10000, e.body)
        return
    raise AssertionError("no error")


checks("cloudflare (Python)", text=text, streaming=streaming, embeddings=embeddings, tools=tools, image=image, speech=speech,
       translation=translation, **{"models()": models}, error_7502=error_7502, error_10000=error_10000)
