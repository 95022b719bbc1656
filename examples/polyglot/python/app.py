"""shop: what a customer sees. Asks prices for a quote and adds its own line to the trace."""

import json
import os
import platform
import signal
import socket
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = int(os.environ.get("PORT") or 8000)
PRICES_URL = os.environ.get("PRICES_URL", "http://prices:3000")
ANSWER_MAX = 64 * 1024


def quote(query):
    """A quote from the rest of the chain."""
    order = {
        "items": query.get("items", ["3"])[0],
        "city": query.get("city", ["Oslo"])[0],
        "currency": query.get("currency", ["NOK"])[0],
    }
    url = f"{PRICES_URL}/price?{urllib.parse.urlencode(order)}"
    with urllib.request.urlopen(url, timeout=5) as answer:
        price = json.loads(answer.read(ANSWER_MAX))
    me = {
        "service": "shop",
        "runtime": f"python {platform.python_version()}",
        "host": socket.gethostname(),
    }
    return {"order": order, **price, "trace": [me, *price["trace"]]}


def reason(error):
    """What a service said about its refusal."""
    try:
        return json.loads(error.read(ANSWER_MAX))["error"]
    except (OSError, ValueError, KeyError, TypeError):
        return str(error)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/healthz":
            self.reply(200, {"ok": True})
        elif url.path in ("/", "/quote"):
            try:
                self.reply(200, quote(urllib.parse.parse_qs(url.query)))
            except urllib.error.HTTPError as error:
                # A wrong order stays the customer's error; anything else is ours.
                status = 400 if error.code == 400 else 502
                self.reply(status, {"error": f"prices: {reason(error)}"})
            except (OSError, ValueError, KeyError) as error:
                self.reply(502, {"error": f"prices: {error}"})
        else:
            self.reply(404, {"error": "try /quote?items=3&city=Oslo&currency=NOK"})

    def reply(self, status, value):
        body = (json.dumps(value, indent=2) + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        if self.path != "/healthz":
            print(self.address_string(), format % args)


server = ThreadingHTTPServer(("0.0.0.0", PORT), Handler)
# shutdown() waits for the loop, so it may not be called from the loop's own thread.
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
print(f"shop listens on {PORT}")
server.serve_forever()
