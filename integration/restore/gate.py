#!/usr/bin/env python3
"""mongod behind a gate: the first connection that asks for its status, and the first that asks it to stop, is cut off unanswered. Each is told in the file `cut`."""

import ctypes
import os
import signal
import socket
import sys
import threading

MONGOD = "REAL"
PR_SET_PDEATHSIG = 1
args = sys.argv[1:]
if "--port" not in args:
    os.execv(MONGOD, [MONGOD, *args])
at = args.index("--port") + 1
port = int(args[at])
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    inner = free.getsockname()[1]
args[at] = str(inner)
parent = os.getpid()
if os.fork():
    # The process that was started, whose end is waited for, is mongod itself.
    os.execv(MONGOD, [MONGOD, *args])
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() != parent:
    sys.exit()

lock = threading.Lock()
to_cut = [b"serverStatus", b"shutdown"]


def cuts(data):
    with lock:
        for word in [word for word in to_cut if word in data]:
            to_cut.remove(word)
            with open(os.path.join(os.path.dirname(__file__), "cut"), "a", encoding="ascii") as told:
                told.write(word.decode() + "\n")
            return True
    return False


def pump(source, sink, gated):
    try:
        while (data := source.recv(1 << 16)) and not (gated and cuts(data)):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(client):
    try:
        server = socket.create_connection(("127.0.0.1", inner))
    except OSError:
        client.close()
        return
    threading.Thread(target=pump, args=(server, client, False), daemon=True).start()
    pump(client, server, True)


with socket.create_server(("127.0.0.1", port)) as listener:
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
