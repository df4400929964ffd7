"""Holds a listening socket and runs the server on it, as systemd does (sd_listen_fds(3)).

Prints the port, then `started` after each start of the server. Each line on standard input restarts the server: SIGTERM,
wait, start.
"""

import os
import signal
import socket
import sys


def start(program, listener):
    child = os.fork()
    if child == 0:
        os.dup2(listener.fileno(), 3)
        os.set_inheritable(3, True)
        environment = dict(os.environ, LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
        os.execve(program[0], program, environment)
    print("started", flush=True)
    return child


def main():
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    child = start(sys.argv[1:], listener)
    for _ in sys.stdin:
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        if status != 0:
            sys.exit(f"the server ended with {status}")
        child = start(sys.argv[1:], listener)
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)


main()
