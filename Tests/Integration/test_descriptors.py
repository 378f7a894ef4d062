"""A server that may open few files: clients beyond that are told so, and take nothing from engines."""
import json
import select
import socket
import sys
import unittest

from serving import HOST, Server, wait_until

LIMITED = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({0}, {1})); " \
    "os.execv(sys.argv[1], sys.argv[1:])"


def limited(soft, hard):
    """A server whose processes start with these limits of open files."""
    server = Server()
    command = [sys.executable, "-c", LIMITED.format(soft, hard), *server.command()]
    server.command = lambda: command
    return server


class DescriptorTests(unittest.TestCase):
    def connect(self, server, count):
        sockets = []
        for _ in range(count):
            connection = socket.create_connection((HOST, server.port), timeout=30)
            self.addCleanup(connection.close)
            sockets.append(connection)
        return sockets

    def test_clients_beyond_the_limit_are_turned_away_and_engines_come_back(self):
        server = limited(300, 300)
        self.addCleanup(server.discard)
        server.start()
        kept = server.connection(30)
        self.addCleanup(kept.close)

        def serving():
            kept.request("GET", "/health")
            answer = kept.getresponse()
            return json.loads(answer.read())["engines"] if answer.status == 200 else 0

        wait_until(lambda: serving() == 2, 30, "the engines do not serve")
        clients = self.connect(server, 400)
        # 128 are the gateway's own, and one is the connection that is kept.
        refused = []

        def all_are_told():
            readable, _, _ = select.select(set(clients) - set(refused), [], [], 0)
            refused.extend(readable)
            return len(refused) == 400 - (300 - 128 - 1)

        wait_until(all_are_told, 30, lambda: f"{len(refused)} of 400 clients were told something")
        for client in refused:
            self.assertTrue(client.recv(64).startswith(b"HTTP/1.1 503 "))
        # An engine that starts again is reached while there is no room for clients.
        old = server.engine(0)
        server.kill(old)
        wait_until(server.killed_are_replaced, 30, server.output)
        wait_until(lambda: serving() == 2, 30, server.output)
        for client in clients:
            client.close()
        kept.close()
        server.stop()

    def test_a_low_limit_that_may_be_raised_is(self):
        server = limited(64, 1024)
        self.addCleanup(server.discard)
        server.start()
        clients = self.connect(server, 200)
        for client in clients:
            client.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        for client in clients:
            self.assertTrue(client.recv(64).startswith(b"HTTP/1.1 200 "))
            client.close()
        server.stop()


if __name__ == "__main__":
    unittest.main()
