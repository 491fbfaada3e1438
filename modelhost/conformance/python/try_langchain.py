"""langchain-cloudflare: chat, tools and embeddings, by its base URL settings."""

from langchain_cloudflare import ChatCloudflareWorkersAI, CloudflareWorkersAIEmbeddings
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool

from table import ACCOUNT, BASE, CHAT, EMBED, TOKEN, checks, want


def chat(**more):
    return ChatCloudflareWorkersAI(model=CHAT, cloudflare_account_id=ACCOUNT, cloudflare_api_token=TOKEN,
                                   cloudflare_api_base=f"{BASE}/client/v4", timeout=600, **{"max_tokens": 12, **more})


@tool
def get_weather(location: str) -> str:
    """Get weather for location"""
    return f"It is 12 degrees in {location}."


def text():
    r = chat().invoke("Say hello.")
    want(r.content, r)
    return r.content


def streaming():
    parts = [c.content for c in chat().stream("Say hello.")]
    want(len([p for p in parts if p]) > 1, parts)
    return "".join(parts)


def embeddings():
    client = CloudflareWorkersAIEmbeddings(account_id=ACCOUNT, api_token=TOKEN, model_name=EMBED, api_base_url=f"{BASE}/client/v4/accounts")
    rows = client.embed_documents(["tea"] * 60)  # over its batch size
    want(len(rows) == 60 and len(rows[0]) == len(client.embed_query("tea")) > 300, len(rows))
    return f"60 vectors of {len(rows[0])}"


def tools(**more):
    question = HumanMessage("What is the weather in Oslo?")
    model = chat(max_tokens=128, **more).bind_tools([get_weather])
    first = model.invoke([question])
    call = first.tool_calls[0]
    want(call["name"] == "get_weather" and call["args"]["location"], first)
    last = model.invoke([question, first, ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])])
    # The package reads words of JSON as a call: seldom a model of 135M parameters says its call once more, which is not the
    # wire's matter.
    want(last.content or last.tool_calls, last)
    return f"{call['args']} -> {last.content or last.tool_calls}"


def tools_openai():
    return tools(endpoint_format="openai_compatible")


def structured():
    schema = {"title": "city", "description": "A city.", "type": "object", "required": ["city"], "properties": {"city": {"type": "string", "maxLength": 20}}}
    r = chat(max_tokens=128).with_structured_output(schema, method="json_schema").invoke("Name a city.")
    # The package puts the schema into the prompt and asks for any JSON object: whether a model of 135M parameters follows the
    # schema is not the wire's matter.
    want(isinstance(r, dict) and r, r)
    return r


checks("langchain-cloudflare", text=text, streaming=streaming, embeddings=embeddings, tools=tools,
       **{"tools, chat completions": tools_openai, "JSON mode": structured})
