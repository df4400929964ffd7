"""A stand-in for the command `ngrok`, on this machine only: the same arguments, the same local agent interface, real TLS.

STANDIN names a folder with cert.pem and key.pem. Files in it cause failures: `foreign` (another server answers at the
address), `silent` (the agent does not answer), `move` (the tunnel gets another address), `error` (exit with that error).
"""

import json
import os
import socket
import socketserver
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(os.environ["STANDIN"])
UPSTREAM = sys.argv[2].removeprefix("http://")
FOREIGN = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n"


def log(level, message, **fields):
    print(json.dumps({"lvl": level, "msg": message, **fields}), flush=True)


def give_up(error):
    log("crit", "command failed", err=f"authentication failed: {error}")
    sys.exit(1)


class Tunnel(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), None)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(FOLDER / "cert.pem", FOLDER / "key.pem")
        self.url = f"https://localhost:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def finish_request(self, request, client_address):
        try:
            with self.context.wrap_socket(request, server_side=True) as outside:
                carry(outside)
        except OSError:
            pass


def carry(outside):
    head = b""
    while b"\r\n\r\n" not in head:
        data = outside.recv(4096)
        if not data:
            return
        head += data
    if (FOLDER / "foreign").exists():
        outside.sendall(FOREIGN)
        return
    # A tunnel adds the client's address and that the client used TLS.
    head = head.replace(b"\r\n", b"\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n", 1)
    host, port = UPSTREAM.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as inside:
        inside.sendall(head)
        back = threading.Thread(target=pour, args=(inside, outside), daemon=True)
        back.start()
        pour(outside, inside)
        back.join()


def pour(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Agent(BaseHTTPRequestHandler):
    def do_GET(self):
        if (FOLDER / "silent").exists() or self.path != "/api/tunnels":
            self.send_error(404)
            return
        tunnels = [{"name": "command_line", "public_url": tunnel.url, "proto": "https",
                    "config": {"addr": f"http://{UPSTREAM}", "inspect": False}}]
        body = json.dumps({"tunnels": tunnels, "uri": "/api/tunnels"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


assert sys.argv[1] == "http" and "--inspect=false" in sys.argv, sys.argv
(FOLDER / "pid").write_text(str(os.getpid()))
if (FOLDER / "error").exists():
    give_up((FOLDER / "error").read_text())
if not os.environ.get("NGROK_AUTHTOKEN"):
    give_up("Usage of ngrok requires a verified account and authtoken. ERR_NGROK_4018")
tunnel = Tunnel()
agent = ThreadingHTTPServer(("127.0.0.1", 0), Agent)
log("info", "starting web service", obj="web", addr=f"127.0.0.1:{agent.server_address[1]}")
threading.Thread(target=agent.serve_forever, daemon=True).start()
log("info", "started tunnel", url=tunnel.url, addr=f"http://{UPSTREAM}")
while True:
    if (FOLDER / "move").exists():
        (FOLDER / "move").unlink()
        tunnel.shutdown()
        tunnel = Tunnel()
    time.sleep(0.02)
