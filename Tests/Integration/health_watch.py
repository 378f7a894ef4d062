"""Asks /health again and again until its standard input ends, then prints what it saw as one JSON object.

A process of its own: a busy interpreter beside it would be measured instead of the server.
"""
import json
import select
import socket
import sys
import time

INTERVAL = 0.01
GIVE_UP = 10


def ask(host, port):
    """Seconds until the whole answer came, and its status; each time on a new connection, as a probe does."""
    began = time.monotonic()
    with socket.create_connection((host, port), timeout=GIVE_UP) as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        data = b""
        while piece := sock.recv(4096):
            data += piece
    return time.monotonic() - began, int(data.split(b" ", 2)[1]) if data else 0


def main():
    host, port = sys.argv[1], int(sys.argv[2])
    seconds, wrong = [], []
    print("watching", flush=True)
    while not select.select([sys.stdin], [], [], INTERVAL)[0]:
        try:
            taken, status = ask(host, port)
            seconds.append(taken)
            if status != 200:
                wrong.append(f"status {status}")
        except OSError as error:
            seconds.append(GIVE_UP)
            wrong.append(repr(error))
    print(json.dumps({"seconds": seconds, "wrong": wrong[:10]}))


if __name__ == "__main__":
    main()
