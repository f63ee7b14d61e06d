#!/usr/bin/env python3
"""replay.py LOG_FOLDER HOST:PORT [--at T,I]    does this server hold exactly what the log of writer.py says was there at that optime?
replay.py --top HOST:PORT                       prints the optime of the newest entry of the server's oplog as T,I

Exit code 0 when every collection of the writer is equal and valid (validate, full) and its database has no other; else 1, and the differences.
Without --at the server's own newest oplog entry is meant: right for a copy that was started standalone, not for one that has since become
a replica set of its own (that writes entries). {"$timestamp":{"t":..,"i":..}} is understood too.
An operation the log has no optime of was in flight at the end; the server may hold all of it or nothing."""
import argparse
import copy
import glob
import json
import os
import sys

import pymongo
from bson import json_util
from bson.timestamp import Timestamp

import model


def optime(text):
    if text.startswith("{"):
        ts = json_util.loads(text)
        return ts.time, ts.inc
    t, i = text.split(",")
    return int(t), int(i)


def top(client):
    last = client.local["oplog.rs"].find().sort("$natural", -1).limit(1)[0]["ts"]
    assert isinstance(last, Timestamp)
    return last.time, last.inc


def read_log(path):
    """(header, [(number, steps, optime or None)]); a last line cut short by a crash was never answered for, so it counts as not written."""
    header, operations, by_number = None, [], {}
    with open(path) as f:
        for line in f:
            if not line.endswith("\n"):
                break
            entry = json.loads(line)
            if "collections" in entry:
                header = entry
            elif "steps" in entry:
                by_number[entry["n"]] = len(operations)
                operations.append([entry["n"], entry["steps"], None])
            elif "done" in entry:
                operations[by_number[entry["done"]]][2] = tuple(entry["ts"])
    known = [o[2] for o in operations if o[2]]
    if known != sorted(set(known)) or any(o[2] is None for o in operations[:-1]):
        sys.exit(f"replay: {path}: not in order; one thread's operations have rising optimes and only the last may lack one")
    return header, operations


def expected(thread, header, operations, at):
    """The states allowed at `at`: one, or two when an operation was in flight. And how many operations it took."""
    state = {c: {} for c in header["collections"]}
    done = 0
    for _, steps, ts in operations:
        if ts is None:
            other = copy.deepcopy(state)
            for s in steps:
                model.apply(other, thread, s, header["pad"])
            return [state, other], done
        if ts > at:
            break
        for s in steps:
            model.apply(state, thread, s, header["pad"])
        done += 1
    return [state], done


def differences(want, have):
    for c in want:
        for i in sorted(want[c].keys() | have[c].keys()):
            w, h = want[c].get(i), have[c].get(i)
            if w is None:
                yield f"{c}: _id {i} should not be there: {short(h)}"
            elif h is None:
                yield f"{c}: _id {i} is missing: {short(w)}"
            elif w != h or list(w) != list(h):
                fields = [k for k in {**w, **h} if w.get(k) != h.get(k)] or ["(order of fields)"]
                yield f"{c}: _id {i} differs in {', '.join(fields)}: {short(h)} instead of {short(w)}"


def short(document):
    return {k: v for k, v in document.items() if k != "pad"}


def check(folder, client, at):
    logs = sorted(glob.glob(os.path.join(folder, "*.jsonl")))
    if not logs:
        sys.exit(f"replay: no log in {folder}")
    found, owned, operations_done, later = [], {}, 0, 0
    for path in logs:
        thread = os.path.basename(path)[: -len(".jsonl")]
        header, operations = read_log(path)
        if header is None:
            found.append(f"{path}: the writer had not begun")
            continue
        db = client[header["db"]]
        owned.setdefault(header["db"], set()).update(header["collections"])
        have = {c: {d["_id"]: d for d in db[c].find()} for c in header["collections"]}
        states, done = expected(thread, header, operations, at)
        operations_done += done
        later += len(operations) - done
        results = [list(differences(s, have)) for s in states]
        found += min(results, key=len)
        for c in header["collections"]:
            v = db.validate_collection(c, full=True)
            if not v["valid"]:
                found.append(f"{c}: validate: {v['errors']}")
    for name, collections in owned.items():
        strangers = set(client[name].list_collection_names()) - collections
        if strangers:
            found.append(f"{name}: collections nobody wrote: {', '.join(sorted(strangers))}")
    for line in found[:20]:
        print(line)
    if len(found) > 20:
        print(f"... and {len(found) - 20} more")
    verdict = "differs" if found else "equal"
    print(f"replay: {verdict} at {at[0]},{at[1]}: the first {operations_done} operations of the writer's log are in it, the {later} after that optime are not")
    return not found


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("log", nargs="?")
    p.add_argument("server")
    p.add_argument("--at", type=optime)
    p.add_argument("--top", action="store_true")
    options = p.parse_args()
    client = pymongo.MongoClient(f"mongodb://{options.server}/", directConnection=True, serverSelectionTimeoutMS=30_000,
                                 readPreference="primaryPreferred")
    if options.top:
        print("{},{}".format(*top(client)))
        return
    sys.exit(0 if check(options.log, client, options.at or top(client)) else 1)


if __name__ == "__main__":
    main()
