"""The basic protocol as a small Python server speaks it: what a delivery costs users of one."""

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
    # Joins are told to nobody: with thousands of readers that alone would be the whole work.
    await socket.send(json.dumps({"type": "user_list", "users": [name]}))
    try:
        async for raw in socket:
            said = json.loads(raw)
            text = FERNET.decrypt(said["content"].encode()).decode()
            frame = {
                "type": "chat_message",
                "username": name,
                "content": FERNET.encrypt(text.encode()).decode(),
                "timestamp": now(),
            }
            websockets.broadcast(CLIENTS, json.dumps(frame))
    finally:
        CLIENTS.discard(socket)


async def main():
    port = int(sys.argv[1])
    options = {"compression": None, "ping_interval": None, "max_queue": 1024, "backlog": 4096}
    async with websockets.serve(serve, "127.0.0.1", port, **options):
        await asyncio.Future()


asyncio.run(main())
