"""A terminal with a program on it: terminal.py COLUMNS ROWS RAW PROGRAM [WORD]...

Reads commands from standard input, one JSON object per line: {"type": TEXT}, {"bytes": HEX}, {"resize": [COLUMNS, ROWS]},
{"hangup": true}. Whenever the screen has changed and no more input is waiting, prints it as one JSON object: `gone` has
the rows that scrolled away since the last one, `rows` the screen, `cursor` its column and row. The file RAW has all bytes
that the program wrote. After the program has exited, the last object has its exit code (or minus its signal) and whether
the terminal's settings were restored.
"""

import fcntl
import json
import os
import selectors
import signal
import struct
import sys
import termios
import unicodedata

import pyte
from wcwidth import wcwidth


class Screen(pyte.Screen):
    """Records rows that scroll away, answers queries as terminals do, and draws every character."""

    def __init__(self, columns, rows, answer):
        super().__init__(columns, rows)
        self.gone = []
        self.answer = answer

    def index(self):
        bottom = self.margins.bottom if self.margins else self.lines - 1
        if self.cursor.y == bottom:
            self.gone.append(row(self.buffer[0], self.columns))
        super().index()

    def draw(self, data):
        # pyte drops the rest after a character of no width that does not combine.
        for char in data:
            if wcwidth(char) > 0 or unicodedata.combining(char):
                super().draw(char)

    def write_process_input(self, data):
        self.answer(data)


def row(cells, columns):
    # The cell behind a wide character is empty.
    return "".join(cells[x].data for x in range(columns)).rstrip()


def main():
    columns, rows, raw = int(sys.argv[1]), int(sys.argv[2]), open(sys.argv[3], "wb", buffering=0)
    master, slave = os.openpty()
    size(master, columns, rows)
    before = termios.tcgetattr(slave)
    child = os.fork()
    if child == 0:
        os.close(master)
        login(slave)
        os.execv(sys.argv[4], sys.argv[4:])
    screen = Screen(columns, rows, lambda text: os.write(master, text.encode()))
    stream = pyte.ByteStream(screen)
    watch = selectors.DefaultSelector()
    watch.register(sys.stdin.fileno(), selectors.EVENT_READ, "commands")
    watch.register(master, selectors.EVENT_READ, "output")
    ended = os.pidfd_open(child)
    watch.register(ended, selectors.EVENT_READ, "end")
    commands = b""
    changed = False
    while True:
        ready = {key.data for key, _ in watch.select(0 if changed else None)}
        if changed and "output" not in ready:
            picture(screen)
            changed = False
        if "output" in ready:
            written = os.read(master, 65536)
            raw.write(written)
            stream.feed(written)
            changed = True
        elif "end" in ready:
            break
        if "commands" in ready:
            read = os.read(sys.stdin.fileno(), 65536)
            if not read:
                os.kill(child, signal.SIGKILL)
                watch.unregister(sys.stdin.fileno())
            *whole, commands = (commands + read).split(b"\n")
            for line in whole:
                command = json.loads(line)
                if "type" in command:
                    os.write(master, command["type"].encode())
                elif "bytes" in command:
                    os.write(master, bytes.fromhex(command["bytes"]))
                elif "resize" in command:
                    screen.resize(command["resize"][1], command["resize"][0])
                    size(master, *command["resize"])
                    changed = True
                else:
                    watch.unregister(master)
                    os.close(master)
    _, status = os.waitpid(child, 0)
    try:
        restored = termios.tcgetattr(slave) == before
        # After the last writer has closed, reading gives the rest and then an error (pty(7)).
        os.close(slave)
        while True:
            written = os.read(master, 65536)
            raw.write(written)
            stream.feed(written)
    except termios.error:
        restored = True  # hung up: there is nothing to put back
    except OSError:
        pass
    picture(screen, code=os.waitstatus_to_exitcode(status), restored=restored)


def login(slave):
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for descriptor in range(3):
        os.dup2(slave, descriptor)


def size(terminal, columns, rows):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def picture(screen, **more):
    gone, screen.gone = screen.gone, []
    rows = [row(screen.buffer[y], screen.columns) for y in range(screen.lines)]
    shot = {"gone": gone, "rows": rows, "cursor": [screen.cursor.x, screen.cursor.y]}
    print(json.dumps({**shot, "title": screen.title, "icon": screen.icon_name, **more}), flush=True)


main()
