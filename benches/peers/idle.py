#!/usr/bin/env python3
"""Memory of idle readers: what the server's resident set grows by for each.

    idle.py SERVER COUNT

Starts the program SERVER once for each kind of reader (WebSocket, lines, events; plain and over TLS), opens COUNT of them,
waits until all have what they get at first, and prints kB per reader. Needs openssl for the certificate, and descriptors
for COUNT connections on both sides (ulimit -n).
"""
import base64, json, os, socket, ssl, struct, subprocess, sys, tempfile, time

program, count = sys.argv[1], int(sys.argv[2])
# Seconds until the threads that read the history have ended, and the allocator has given back what nobody uses.
SETTLE = 12


def start(folder, tls):
    config = f'[limits]\nconnections = {count + 100}\nconnections_per_address = {count + 100}\n'
    if tls:
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
                        '-subj', '/CN=localhost', '-days', '2', '-keyout', f'{folder}/key.pem', '-out', f'{folder}/cert.pem'],
                       check=True, stderr=subprocess.DEVNULL)
        config += f'[listen]\ntls = {{ certificate = "{folder}/cert.pem", key = "{folder}/key.pem" }}\n'
    with open(f'{folder}/config.toml', 'w') as file:
        file.write(config)
    server = subprocess.Popen([program, '--config', f'{folder}/config.toml', '--port', '0'], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, env={**os.environ, 'STATE_DIRECTORY': folder, 'RUNTIME_DIRECTORY': folder})
    for line in server.stdout:
        if '"listening"' in line:
            return server, int(json.loads(line)['address'].rsplit(':', 1)[1])
    sys.exit('the server does not start')


def resident(server):
    with open(f'/proc/{server.pid}/status') as file:
        return next(int(line.split()[1]) for line in file if line.startswith('VmRSS'))


def frame(text):
    body = text.encode()
    head = struct.pack('!BB', 0x81, 0x80 | len(body)) if len(body) < 126 else struct.pack('!BBH', 0x81, 0xfe, len(body))
    return head + bytes(4) + body


REGISTER = json.dumps({'type': 'register', 'protocol': 1, 'username': 'idle', 'rooms': ['lobby'], 'presence': False})
KINDS = {
    'websocket': ('/', 'Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: '
                  + base64.b64encode(bytes(16)).decode() + '\r\n', b'"encryption_key"'),
    'lines': ('/rooms/lobby?follow=true', '', b'\r\n\r\n'),
    'events': ('/rooms/lobby', 'Accept: text/event-stream\r\n', b'\r\n\r\n'),
}


def reader(port, kind, context):
    stream = socket.create_connection(('127.0.0.1', port), 30)
    if context:
        stream = context.wrap_socket(stream)
    path, headers, last = KINDS[kind]
    stream.sendall(f'GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n'.encode())
    text = b''
    if kind == 'websocket':
        while b'\r\n\r\n' not in text:
            text += stream.recv(4096)
        stream.sendall(frame(REGISTER))
    while last not in text:
        piece = stream.recv(4096)
        if not piece:
            sys.exit(f'{kind}: closed after {text!r}')
        text += piece
    return stream


for tls in False, True:
    context = ssl._create_unverified_context() if tls else None
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            server, port = start(folder, tls)
            try:
                warm = [reader(port, kind, context) for _ in range(50)]
                time.sleep(SETTLE)
                before = resident(server)
                readers = [reader(port, kind, context) for _ in range(count)]
                time.sleep(SETTLE)
                grown = resident(server) - before
                print(f'{kind:9} {"TLS" if tls else "plain":5} {grown / count:6.2f} kB per reader ({grown} kB for {count})', flush=True)
                del warm, readers
            finally:
                server.kill()
                server.wait()
