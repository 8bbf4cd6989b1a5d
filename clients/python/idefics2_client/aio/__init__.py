"""The same client for asyncio: the methods of `Client`, to be awaited or iterated over with `async for`.

    async with AsyncClient() as client:
        print((await client.generate("cat.png", "What is on the sofa?")).output)

What is asked and what an answer means is shared with the blocking client; here is only what waits.
"""

from idefics2_client.aio.client import AsyncClient

__all__ = ["AsyncClient"]
