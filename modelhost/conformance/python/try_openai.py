"""The official openai package on /ai/v1."""

import json

from openai import NotFoundError, OpenAI

from table import ACCOUNT, BASE, CHAT, EMBED, TOKEN, checks, want

client = OpenAI(base_url=f"{BASE}/client/v4/accounts/{ACCOUNT}/ai/v1", api_key=TOKEN, max_retries=0, timeout=600)
hello = [{"role": "user", "content": "Say hello."}]
weather = [{"role": "user", "content": "What is the weather in Oslo?"}]
location = {"type": "string", "maxLength": 20}
tools = [{"type": "function", "function": {"name": "getWeather", "description": "Get weather for location",
          "parameters": {"type": "object", "properties": {"location": location}, "required": ["location"]}}}]


def text():
    r = client.chat.completions.create(model=CHAT, messages=hello, max_tokens=12)
    want(r.choices[0].message.content and r.usage.completion_tokens > 0, r)
    return r.choices[0].message.content


def streaming():
    said, usage = "", None
    stream = client.chat.completions.create(model=CHAT, messages=hello, max_tokens=12, stream=True, stream_options={"include_usage": True})
    for chunk in stream:
        if chunk.choices:
            said += chunk.choices[0].delta.content or ""
        usage = chunk.usage or usage
    want(said and usage.completion_tokens > 0, (said, usage))
    return said


def embeddings():
    packed = client.embeddings.create(model=EMBED, input=["tea", "rain"])  # the package asks for base64 by itself
    plain = client.embeddings.create(model=EMBED, input=["tea", "rain"], encoding_format="float")
    a, b = packed.data[1].embedding, plain.data[1].embedding
    want(len(a) == len(b) > 300 and max(abs(x - y) for x, y in zip(a, b)) < 1e-3 and plain.usage.prompt_tokens > 0, (len(a), len(b)))
    return f"2 vectors of {len(a)}"


def call_of(answer):
    choice = answer.choices[0]
    call = choice.message.tool_calls[0]
    want(choice.finish_reason == "tool_calls" and call.id and json.loads(call.function.arguments)["location"], choice)
    return call


def tools_and_answer():
    first = client.chat.completions.create(model=CHAT, messages=weather, tools=tools, tool_choice="required", max_tokens=128)
    call = call_of(first)
    result = {"role": "tool", "tool_call_id": call.id, "content": "It is 12 degrees and sunny."}
    last = client.chat.completions.create(model=CHAT, messages=[*weather, first.choices[0].message, result], tools=tools, max_tokens=30)
    want(last.choices[0].message.content and not last.choices[0].message.tool_calls, last)
    return f"{call.function.arguments} -> {last.choices[0].message.content}"


def tools_streamed():
    with client.chat.completions.stream(model=CHAT, messages=weather, tools=tools, tool_choice="required", max_tokens=128) as stream:
        for _ in stream:
            pass
        return call_of(stream.get_final_completion()).function.arguments


def models():
    ids = [m.id for m in client.models.list()]
    want(CHAT in ids, ids)
    return f"{len(ids)} models"


def error_7502():
    try:
        client.chat.completions.create(model="@cf/none/such", messages=hello)
    except NotFoundError as e:
        want(e.status_code == 404 and e.code == "7502", (e.status_code, e.code))
        return e
    raise AssertionError("no error")


checks("openai (Python)", text=text, streaming=streaming, embeddings=embeddings, tools=tools_and_answer,
       **{"tools, streamed": tools_streamed, "models()": models, "error 7502": error_7502})
