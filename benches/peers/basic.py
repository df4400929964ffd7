"""A small Python server for the basic protocol, as a comparison for benches/fanout."""

import asyncio
import base64
import json
import sys
from datetime import datetime, timezone

import websockets
from cryptography.fernet import Fernet

KEY = Fernet.generate_key()
FERNET = Fernet(KEY)
CLIENTS = set()


def now():
    return datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


async def serve(socket):
    register = json.loads(await socket.recv())
    name = register["username"]
    await socket.send(json.dumps({"type": "encryption_key", "key": base64.b64encode(KEY).decode()}))
    CLIENTS.add(socket)
    # Joins are not announced: with thousands of readers that would dominate the cost.
    await socket.send(json.dumps({"type": "user_list", "users": [name]}))
    try:
        async for raw in socket:
            frame = json.loads(raw)
            text = FERNET.decrypt(frame["content"].encode()).decode()
            delivery = {
                "type": "chat_message",
                "username": name,
                "content": FERNET.encrypt(text.encode()).decode(),
                "timestamp": now(),
            }
            websockets.broadcast(CLIENTS, json.dumps(delivery))
    finally:
        CLIENTS.discard(socket)


async def main():
    port = int(sys.argv[1])
    options = {"compression": None, "ping_interval": None, "max_queue": 1024, "backlog": 4096}
    async with websockets.serve(serve, "127.0.0.1", port, **options):
        await asyncio.Future()


asyncio.run(main())
