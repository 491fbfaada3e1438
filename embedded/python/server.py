# For engine scripts that serve HTTP themselves: a handler that answers JSON, and the server.
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class JSONHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 600

    def log_message(self, *args):
        pass

    def reply(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve(handler):
    print("listening on port", cfg["port"], flush=True)
    ThreadingHTTPServer(("127.0.0.1", cfg["port"]), handler).serve_forever()
