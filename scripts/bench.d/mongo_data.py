#!/usr/bin/env python3
"""Makes a mongod's data directory for benchmarks: mongo_data.py --mongod DIR --out DIR [--scale S] [--seed N]

One database a kind of collection, each in a directory of its own (`--directoryperdb`), so that every kind can be packed by itself:

    packages   Debian's package index, as `apt-cache dumpavail` prints it, one document a package
    events     a web service's log: small documents that are inserted once, two indexes
    orders     documents that are updated, grow and are deleted, in rounds with checkpoints between them, two indexes
    metrics    a time-series collection (zstd by MongoDB's default)
    local      the oplog, cut to a twentieth or so of the data, as it is on hosts

No document appears twice, but for its entry in the oplog. What is made depends on the seed and Debian's index alone; how mongod lays it out depends on
its threads too. The copy is taken under fsyncLock, as a backup takes it.
"""
import argparse
import datetime
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

from bson import Binary, Int64, ObjectId
from pymongo import MongoClient, ReplaceOne, UpdateOne

BATCH = 2000
BEGIN = datetime.datetime(2026, 1, 1)


def object_id(random_: random.Random, at: datetime.datetime, counter: int) -> ObjectId:
    """As a driver makes them: seconds, a process, a counter."""
    seconds = int((at - datetime.datetime(1970, 1, 1)).total_seconds())
    process = random_.choice(PROCESSES)
    return ObjectId(seconds.to_bytes(4, "big") + process + (counter & 0xFFFFFF).to_bytes(3, "big"))


def packages():
    """Debian's index."""
    text = subprocess.run(["apt-cache", "dumpavail"], check=True, capture_output=True, text=True).stdout
    for number, stanza in enumerate(text.split("\n\n")):
        document, field = {}, None
        for line in stanza.splitlines():
            if line.startswith(" ") and field:
                document[field] += "\n" + line[1:]
            elif ": " in line or line.endswith(":"):
                field, _, value = line.partition(":")
                field = field.replace(".", "_")
                document[field] = value.strip()
        if "Package" not in document:
            continue
        for name in ("Size", "Installed-Size"):
            if name in document:
                document[name] = int(document[name])
        for name in ("Depends", "Recommends", "Suggests", "Breaks", "Replaces", "Provides", "Conflicts", "Pre-Depends"):
            if name in document:
                document[name] = [relation.strip() for relation in document[name].split(",")]
        for name in ("MD5sum", "SHA256"):
            if name in document:
                document[name] = Binary(bytes.fromhex(document[name]))
        if "Tag" in document:
            document["Tag"] = [tag.strip() for tag in document["Tag"].replace("\n", " ").split(",")]
        yield {"_id": number, **document}


def events(count: int, random_: random.Random):
    """A web service's log."""
    users = [f"{random_.choice(WORDS)}.{random_.choice(WORDS)}{random_.randrange(100)}" for _ in range(40_000)]
    agents = [
        f"Mozilla/5.0 ({random_.choice(SYSTEMS)}) AppleWebKit/537.{random_.randrange(40)} (KHTML, like Gecko) Chrome/{random_.randrange(90, 140)}.0.{random_.randrange(7000)}.{random_.randrange(200)} Safari/537.36"
        for _ in range(300)
    ]
    sessions = {}
    at = BEGIN
    for number in range(count):
        at += datetime.timedelta(milliseconds=random_.expovariate(1 / 40))
        user = users[int(len(users) * random_.random() ** 3)]
        session = sessions.get(user)
        if session is None or random_.random() < 0.05:
            session = sessions[user] = (
                str(uuid.UUID(int=random_.getrandbits(128), version=4)),
                f"{random_.randrange(1, 224)}.{random_.randrange(256)}.{random_.randrange(256)}.{random_.randrange(1, 255)}",
                random_.choice(agents),
            )
        item = int(200_000 * random_.random() ** 2)
        path = random_.choice(PATHS).format(item=item, word=random_.choice(WORDS))
        document = {
            "_id": object_id(random_, at, number),
            "at": at,
            "user": user,
            "session": session[0],
            "ip": session[1],
            "agent": session[2],
            "method": random_.choices(["GET", "POST", "PUT", "DELETE"], [80, 15, 4, 1])[0],
            "path": path,
            "status": random_.choices([200, 304, 404, 302, 500], [85, 7, 5, 2, 1])[0],
            "bytes": int(random_.lognormvariate(8, 1.5)),
            "milliseconds": round(random_.lognormvariate(3, 1), 3),
            "trace": Binary(random_.randbytes(8)),
        }
        if document["status"] == 500:
            document["error"] = " ".join(random_.choices(WORDS, k=random_.randrange(5, 40)))
        yield document


def order(number: int, random_: random.Random, at: datetime.datetime) -> dict:
    """An order as it is first written."""
    lines = [
        {
            "sku": f"SKU-{int(50_000 * random_.random() ** 2):06}",
            "name": " ".join(random_.choices(WORDS, k=3)),
            "quantity": random_.randrange(1, 6),
            "price": Int64(random_.randrange(99, 99_999)),
        }
        for _ in range(min(12, 1 + int(random_.expovariate(0.5))))
    ]
    return {
        "_id": number,
        "customer": random_.randrange(100_000),
        "placed": at,
        "status": "new",
        "lines": lines,
        "total": Int64(sum(line["quantity"] * line["price"] for line in lines)),
        "address": {
            "name": f"{random_.choice(WORDS).title()} {random_.choice(WORDS).title()}",
            "street": f"{random_.choice(WORDS).title()} Street {random_.randrange(1, 300)}",
            "city": random_.choice(CITIES),
            "code": f"{random_.randrange(100_000):05}",
        },
        "note": " ".join(random_.choices(WORDS, k=random_.randrange(0, 30))),
        "history": [],
    }


def churn(database, count: int, random_: random.Random) -> None:
    """Four rounds in which orders are placed, go on and are removed, with checkpoints between."""
    orders = database.orders
    orders.create_index([("customer", 1), ("placed", -1)])
    orders.create_index("status")
    at, number, alive = BEGIN, 0, []
    for step in range(4):
        batch = []
        for _ in range(count // 4):
            at += datetime.timedelta(seconds=random_.expovariate(1))
            batch.append(order(number, random_, at))
            alive.append(number)
            number += 1
            if len(batch) == BATCH:
                orders.insert_many(batch, ordered=False)
                batch = []
        if batch:
            orders.insert_many(batch, ordered=False)
        database.client.admin.command("fsync")
        changes = []
        for key in random_.sample(alive, len(alive) // 2):
            at += datetime.timedelta(seconds=random_.expovariate(2))
            state = random_.choice(["paid", "packed", "sent", "delivered", "returned"])
            entry = {"at": at, "status": state, "by": random_.choice(WORDS), "reference": random_.randbytes(6).hex(), "remark": " ".join(random_.choices(WORDS, k=random_.randrange(12)))}
            changes.append(UpdateOne({"_id": key}, {"$set": {"status": state}, "$push": {"history": entry}}))
            if len(changes) == BATCH:
                orders.bulk_write(changes, ordered=False)
                changes = []
        if changes:
            orders.bulk_write(changes, ordered=False)
        database.client.admin.command("fsync")
        random_.shuffle(alive)
        gone, alive = alive[: len(alive) // 6], alive[len(alive) // 6 :]
        alive.sort()
        for start in range(0, len(gone), BATCH):
            orders.delete_many({"_id": {"$in": gone[start : start + BATCH]}})
        database.client.admin.command("fsync")


def metrics(count: int, random_: random.Random):
    """What 200 hosts tell every ten seconds."""
    hosts = [{"host": f"{random_.choice(WORDS)}-{number:03}", "rack": f"r{number % 12}", "system": random_.choice(SYSTEMS)} for number in range(200)]
    levels = [[random_.uniform(5, 60), random_.uniform(20, 90), random_.uniform(0, 1e6)] for _ in hosts]
    counters = [[random_.randrange(1 << 40), random_.randrange(1 << 36)] for _ in hosts]
    for number in range(count):
        place = number % len(hosts)
        level, counter = levels[place], counters[place]
        level[0] = min(100, max(0, level[0] + random_.gauss(0, 2)))
        level[1] = min(100, max(0, level[1] + random_.gauss(0, 0.1)))
        level[2] = abs(level[2] + random_.gauss(0, 1e4))
        counter[0] += int(random_.expovariate(1 / 80_000))
        counter[1] += int(random_.expovariate(1 / 900))
        yield {
            "at": BEGIN + datetime.timedelta(seconds=10 * (number // len(hosts)), milliseconds=random_.randrange(1000)),
            "host": hosts[place],
            "cpu": round(level[0], 2),
            "memory": round(level[1], 3),
            "load": level[2],
            "received": Int64(counter[0]),
            "errors": Int64(counter[1]),
        }


def insert(collection, documents) -> None:
    batch = []
    for document in documents:
        batch.append(document)
        if len(batch) == BATCH:
            collection.insert_many(batch, ordered=False)
            batch = []
    if batch:
        collection.insert_many(batch, ordered=False)


def fill(client: MongoClient, scale: float, seed: int) -> None:
    client.packages.packages.create_index([("Package", 1), ("Version", 1)])
    client.packages.packages.create_index("Tag")
    insert(client.packages.packages, packages())
    client.events.events.create_index([("user", 1), ("at", 1)])
    client.events.events.create_index("session")
    insert(client.events.events, events(int(1_200_000 * scale), random.Random(seed + 1)))
    client.metrics.create_collection("hosts", timeseries={"timeField": "at", "metaField": "host", "granularity": "seconds"})
    insert(client.metrics.hosts, metrics(int(1_500_000 * scale), random.Random(seed + 3)))
    # Last, so that the oplog ends with updates and deletes as well as inserts.
    churn(client.orders, int(400_000 * scale), random.Random(seed + 2))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--mongod", type=Path, required=True, help="the directory that holds mongod")
    options.add_argument("--out", type=Path, required=True, help="where the copy goes; must not exist")
    options.add_argument("--scale", type=float, default=1.0, help="of events, orders and metrics (1: about 900 MB)")
    options.add_argument("--seed", type=int, default=20261127)
    options.add_argument("--compressor", default="snappy", help="of collections: snappy, zstd, zlib, none")
    arguments = options.parse_args()
    if arguments.out.exists():
        raise SystemExit(f"{arguments.out} exists")
    home = Path(tempfile.mkdtemp(prefix="freezeframe-data-", dir=arguments.out.parent))
    data = home / "data"
    data.mkdir()
    log = home / "log"
    command = [arguments.mongod / "mongod", "--dbpath", data, "--replSet", "rs0", "--bind_ip", "127.0.0.1", "--port", "0", "--directoryperdb"]
    command += ["--oplogSize", str(max(8, int(64 * arguments.scale))), "--wiredTigerCacheSizeGB", "1", "--wiredTigerCollectionBlockCompressor", arguments.compressor]
    # What a host writes in days is written in a minute here: the history that is kept, and the time between checkpoints, are shorter by as much.
    command += ["--setParameter", "minSnapshotHistoryWindowInSeconds=5", "--syncdelay", "10"]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(arguments.mongod)}
    with socket_port() as port:
        command[command.index("--port") + 1] = str(port)
    server = subprocess.Popen([str(part) for part in command], stdout=open(log, "wb"), stderr=subprocess.STDOUT, env=environment)
    try:
        client = MongoClient("127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=60_000)
        client.admin.command("replSetInitiate", {"_id": "rs0", "members": [{"_id": 0, "host": f"127.0.0.1:{port}"}]})
        while not client.admin.command("hello")["isWritablePrimary"]:
            time.sleep(0.1)
        fill(client, arguments.scale, arguments.seed)
        client.admin.command({"fsync": 1, "lock": True})
        subprocess.run(["cp", "-a", "--sparse=auto", data, arguments.out], check=True)
        (arguments.out / "mongod.lock").unlink()
        (arguments.out / "WiredTiger.lock").unlink()
        shutil.rmtree(arguments.out / "diagnostic.data")
    except BaseException:
        print(log.read_text(errors="replace")[-2000:])
        raise
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
        shutil.rmtree(home)


class socket_port:
    """A port that was free a moment ago."""

    def __enter__(self) -> int:
        import socket

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return free.getsockname()[1]

    def __exit__(self, *_) -> None:
        pass


_of = random.Random(7)
PROCESSES = [_of.randbytes(5) for _ in range(12)]
CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiou"
WORDS = ["".join(_of.choice(CONSONANTS) + _of.choice(VOWELS) for _ in range(_of.randrange(2, 5))) + _of.choice(["", "n", "r", "st", "l"]) for _ in range(6000)]
CITIES = [word.title() for word in WORDS[:900]]
SYSTEMS = ["X11; Linux x86_64", "Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7", "Linux; Android 14; SM-S928B"]
PATHS = ["/", "/items/{item}", "/items/{item}/reviews", "/search?q={word}", "/cart", "/api/v2/items/{item}?fields=price,stock", "/static/{word}.js", "/account/{word}"]

if __name__ == "__main__":
    main()
