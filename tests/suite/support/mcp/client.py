"""An MCP client of the official SDK: does the steps that it reads from stdin, one JSON array a line, and says what came of
each. The arguments are the command of the server."""
import asyncio
import json
import sys

from mcp import Client, ClientSession, StdioServerParameters, stdio_client


async def sampled(context, params):
    from mcp_types import CreateMessageResult, TextContent

    return CreateMessageResult(role="assistant", content=TextContent(type="text", text="yes"), model="m")


async def step(session, words):
    what, *rest = words
    if what == "list":
        tools = (await session.list_tools()).tools
        return sorted(tool.name for tool in tools)
    if what == "call":
        told = []

        async def progress(done, total, message):
            told.append(message)

        result = await session.call_tool(rest[0], rest[1], progress_callback=progress)
        return {"error": bool(result.is_error), "text": result.content[0].text, "progress": told}
    if what == "resource":
        return str(await session.read_resource(rest[0]))
    if what == "prompt":
        return str(await session.get_prompt(rest[0], rest[1]))
    if what == "complete":
        from mcp_types import PromptReference

        return str(await session.complete(PromptReference(type="ref/prompt", name="greet"), rest[0]))
    if what == "raw":
        return await session.send_raw(rest[0])
    raise ValueError(what)


async def main():
    mode, command, *args = sys.argv[1:]
    import os

    parameters = StdioServerParameters(command=command, args=args, env=dict(os.environ))
    loop = asyncio.get_running_loop()
    async with stdio_client(parameters) as (read, write):
        async with ClientSession(read, write, sampling_callback=sampled) as session:
            if mode == "modern":
                await session.discover()
            else:
                await session.initialize()
            print(json.dumps({"ready": True}), flush=True)
            pending = set()
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                words = json.loads(line)

                async def run(words=words):
                    try:
                        said = {"ok": await step(session, words)}
                    except Exception as error:
                        inner = getattr(error, "error", None)
                        said = {"refused": str(error), "code": getattr(inner, "code", None)}
                    print(json.dumps({"step": words, **said}), flush=True)

                task = asyncio.create_task(run())
                pending.add(task)
                if words[0] != "call" or words[1] != "slow":
                    await task
            await asyncio.gather(*pending, return_exceptions=True)


asyncio.run(main())
