#!/usr/bin/env python3
"""writer.py HOST:PORT LOG_FOLDER [--threads 3] [--rate 50] [--docs 300] [--pad 400] [--seconds S] [--w 1] [--db lab]
Writes to a replica set's primary until SIGTERM (or for S seconds) and keeps a log from which replay.py computes what every collection must hold at
any optime.

Exact by construction:
- each thread owns its collections, so each document has one writer and the thread's log is the order of its operations;
- before an operation is sent, its intent is in the log; after the reply, a line with the optime of *this* operation. `operationTime` in a reply will
  not do, it is the newest optime of the whole server. Write commands return their own in `opTime`; of a transaction, the session's record in
  config.transactions has it;
- at most the last operation of a thread is without an optime: it was in flight when the writer or the server ended, and replay.py allows both.
Lines are written with one write(2) each, without a buffer of ours: put the log on /host and it survives a power cut of the guest.

LOG_FOLDER gets <thread>.jsonl, and `ready` once every thread has written. Prints a summary with the longest time a write took (a lock on the primary's
path shows there). Exit code 3 when a thread had to give up."""
import argparse
import json
import os
import random
import signal
import sys
import threading
import time

import pymongo
from bson.timestamp import Timestamp

import model


class Writer(threading.Thread):
    def __init__(self, number, options, stop):
        super().__init__(name=f"w{number}")
        self.options, self.stop = options, stop
        self.client = pymongo.MongoClient(f"mongodb://{options.server}/", directConnection=True, retryWrites=False,
                                          serverSelectionTimeoutMS=30_000)
        self.db = self.client[options.db]
        self.collections = [f"{self.name}_a", f"{self.name}_b"]
        self.random = random.Random(number)
        self.live = {c: [] for c in self.collections}
        self.count, self.slowest, self.slowest_at, self.error = 0, 0.0, 0.0, None
        self.log = os.open(os.path.join(options.log, f"{self.name}.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self.began = threading.Event()

    def note(self, line):
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        if os.write(self.log, data) != len(data):
            raise OSError("short write to the log")

    def prepare(self):
        for c in self.collections:
            self.db.create_collection(c)
            self.db[c].create_index("v")
        self.note({"collections": self.collections, "db": self.options.db, "pad": self.options.pad})

    def choose(self, collection, number):
        """One step, as model.apply understands it; every step changes something, for an update that changes nothing has no optime of its own."""
        live = self.live[collection]
        if not live or (len(live) < self.options.docs and self.random.random() < 0.5):
            live.append(number)
            return [collection, "insert", number, number]
        kind = self.random.choices(["set", "inc", "replace", "push", "delete"], [4, 2, 2, 2, 2])[0]
        at = self.random.randrange(len(live))
        target = live[at]
        if kind == "delete":
            live[at] = live[-1]
            live.pop()
        return [collection, kind, target, number]

    def send(self, step, session=None):
        collection, kind, target, number = step
        more = {} if session else {"writeConcern": {"w": self.options.w}}
        if kind == "insert":
            reply = self.db.command("insert", collection, documents=[model.document(self.name, target, number, self.options.pad)],
                                    session=session, **more)
        elif kind == "delete":
            reply = self.db.command("delete", collection, deletes=[{"q": {"_id": target}, "limit": 1}], session=session, **more)
        else:
            update = model.update(self.name, kind, target, number, self.options.pad)
            reply = self.db.command("update", collection, updates=[{"q": {"_id": target}, "u": update}], session=session, **more)
        if reply["n"] != 1 or reply.get("nModified", 1) != 1 or "writeErrors" in reply or "writeConcernError" in reply:
            raise RuntimeError(f"{step}: {reply}")
        return reply

    def one(self, number):
        if number % 10 == 9:
            # two collections in one transaction: a torn copy shows one half
            steps = [self.choose(c, number) for c in self.collections]
        else:
            steps = [self.choose(self.random.choice(self.collections), number)]
        self.note({"n": number, "steps": steps})
        start = time.monotonic()
        if len(steps) == 1:
            ts = self.send(steps[0])["opTime"]["ts"]
        else:
            with self.client.start_session() as session:
                with session.start_transaction(write_concern=pymongo.WriteConcern(self.options.w)):
                    for s in steps:
                        self.send(s, session)
                took = time.monotonic() - start
                record = self.client.config.transactions.find_one({"_id.id": session.session_id["id"]})
                ts = record["lastWriteOpTime"]["ts"]
        took = time.monotonic() - start if len(steps) == 1 else took
        if took > self.slowest:
            self.slowest, self.slowest_at = took, time.time()
        assert isinstance(ts, Timestamp)
        self.note({"done": number, "ts": [ts.time, ts.inc]})

    def run(self):
        try:
            self.prepare()
            while not self.stop.is_set():
                due = time.monotonic() + 1 / self.options.rate
                self.one(self.count)
                self.count += 1
                self.began.set()
                self.stop.wait(max(0.0, due - time.monotonic()))
            self.note({"end": self.count})
        except Exception as e:  # whatever it was: the operation stays in flight in the log, and the summary says why
            self.error = f"{type(e).__name__}: {e}"
            self.stop.set()
            self.began.set()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("server")
    p.add_argument("log")
    p.add_argument("--threads", type=int, default=3)
    p.add_argument("--rate", type=float, default=50, help="operations a second and thread, at most")
    p.add_argument("--docs", type=int, default=300, help="documents a collection grows to")
    p.add_argument("--pad", type=int, default=400, help="bytes of noise in a document")
    p.add_argument("--seconds", type=float)
    p.add_argument("--w", type=lambda w: int(w) if w.isdigit() else w, default=1)
    p.add_argument("--db", default="lab")
    options = p.parse_args()

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    os.makedirs(options.log, exist_ok=True)
    writers = [Writer(i, options, stop) for i in range(options.threads)]
    for w in writers:
        w.start()
    for w in writers:
        w.began.wait()
    open(os.path.join(options.log, "ready"), "w").close()
    stop.wait(options.seconds)
    stop.set()
    for w in writers:
        w.join()
    slowest = max(writers, key=lambda w: w.slowest)
    errors = {w.name: w.error for w in writers if w.error}
    print(json.dumps({"operations": sum(w.count for w in writers), "slowest_ms": round(slowest.slowest * 1000),
                      "slowest_at": round(slowest.slowest_at, 3), "errors": errors}), flush=True)
    sys.exit(3 if errors else 0)


if __name__ == "__main__":
    main()
