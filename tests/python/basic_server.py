"""A server of the basic protocol, written like the existing ones: one room, one key. It forwards messages to all clients and
refuses more than RATE messages in WINDOW seconds.

Usage: basic_server.py [RATE [WINDOW]]. Prints its port.
"""

import asyncio
import base64
import json
import sys
import time
from datetime import datetime, timezone

import websockets
from cryptography.fernet import Fernet

RATE = int(sys.argv[1]) if len(sys.argv) > 1 else 10
WINDOW = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
KEY = Fernet.generate_key()
CIPHER = Fernet(KEY)
USERS = {}


async def tell(frame):
    for socket in list(USERS):
        try:
            await socket.send(json.dumps(frame))
        except websockets.ConnectionClosed:
            pass


def now():
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


async def serve(socket):
    data = json.loads(await socket.recv())
    if data.get("type") != "register":
        return
    name = data.get("username", "Anónimo")
    USERS[socket] = name
    times = []
    try:
        await socket.send(json.dumps({"type": "encryption_key", "key": base64.b64encode(KEY).decode()}))
        await tell({"type": "user_joined", "username": name, "timestamp": now(), "message": f"{name} se ha unido al chat"})
        await socket.send(json.dumps({"type": "user_list", "users": list(USERS.values())}))
        async for raw in socket:
            data = json.loads(raw)
            if data.get("type") != "chat_message":
                continue
            times = [t for t in times if t > time.monotonic() - WINDOW]
            if len(times) >= RATE:
                await socket.send(json.dumps({"type": "error", "message": "Demasiados mensajes"}))
                continue
            times.append(time.monotonic())
            text = CIPHER.decrypt(data["content"].encode())
            token = CIPHER.encrypt(text).decode()
            await tell({"type": "chat_message", "username": name, "content": token, "timestamp": now()})
    except websockets.ConnectionClosed:
        pass
    finally:
        USERS.pop(socket, None)
        await tell({"type": "user_left", "username": name, "timestamp": now(), "message": f"{name} ha salido del chat"})


async def main():
    async with websockets.serve(serve, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


asyncio.run(main())
