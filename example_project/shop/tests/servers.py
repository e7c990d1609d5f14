"""The other ends of the gateways, small: an HTTP service and a mail server on this machine."""

import gc
import json
import socket
import socketserver
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@contextmanager
def serving(server):
    """Serve in a thread while the block runs."""
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class HTTPService(ThreadingHTTPServer):
    """Keeps each request as (path, headers, body) and gives all of them the same answer.

    Attributes:
        text: the answer as it is sent; at first the given one as JSON.
    """

    def __init__(self, status, answer):
        super().__init__(("127.0.0.1", 0), _PostHandler)
        self.status, self.text = status, json.dumps(answer)
        self.requests = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class _PostHandler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers, body))
        answer = self.server.text.encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        """Stay silent."""


class RawService(socketserver.ThreadingTCPServer):
    """Answers the first request of a connection with some bytes, and hangs up; at once without any.

    Attributes:
        patience: for how many seconds the last client waits, a socket of this process.
    """

    def __init__(self, answer=b""):
        super().__init__(("127.0.0.1", 0), _RawHandler)
        self.answer = answer

    @property
    def port(self):
        return self.server_address[1]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"


class _RawHandler(socketserver.BaseRequestHandler):
    def handle(self):
        self.server.patience = _client_at(self.client_address).gettimeout()
        request = b"{}" if not self.server.answer else self.request.recv(65536)
        while not request.endswith(b"{}"):
            request += self.request.recv(65536)
        self.request.sendall(self.server.answer)


def _client_at(address):
    sockets = [found for found in gc.get_objects() if isinstance(found, socket.socket)]
    return next(one for one in sockets if one.fileno() != -1 and one.getsockname() == address)


class MailServer(socketserver.ThreadingTCPServer):
    """Keeps each mail that it receives; refuses recipients at ``full.example``."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _SMTPHandler)
        self.mails = []

    @property
    def port(self):
        return self.server_address[1]


class _SMTPHandler(socketserver.StreamRequestHandler):
    def handle(self):
        self._say("220 ready")
        for line in self.rfile:
            command = line.split(b":")[0].strip().upper()
            if command == b"RCPT TO" and b"@full.example" in line:
                self._say("452 mailbox full")
            elif command == b"DATA":
                self._receive_mail()
            elif command == b"QUIT":
                return self._say("221 bye")
            else:
                self._say("250 ok")
        return None

    def _receive_mail(self):
        self._say("354 go on")
        lines = iter(self.rfile.readline, b".\r\n")
        self.server.mails.append(b"".join(lines).decode())
        self._say("250 ok")

    def _say(self, line):
        self.wfile.write(f"{line}\r\n".encode())
