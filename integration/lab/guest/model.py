"""What the writer's operations mean, once for writer.py, which sends them, and replay.py, which works out what they must have left."""
import random


def noise(thread, number, size):
    """Incompressible, but the same every time: the log need not hold it."""
    return random.Random(f"{thread}/{number}").randbytes(size // 2).hex()


def document(thread, target, number, size):
    return {"_id": target, "v": number, "count": 0, "list": [], "by": "insert", "pad": noise(thread, number, size)}


def update(thread, kind, target, number, size):
    """The update command's `u` for a step."""
    if kind == "set":
        return {"$set": {"v": number, "by": "set", "pad": noise(thread, number, size)}}
    if kind == "inc":
        return {"$inc": {"count": 1}, "$set": {"v": number}}
    if kind == "push":
        return {"$push": {"list": number}}
    assert kind == "replace"
    return {"v": number, "count": -number - 1, "list": [number], "by": "replace", "pad": noise(thread, number, size)}


def apply(state, thread, step, size):
    """One step of the log on `state`: {collection: {_id: document}}."""
    collection, kind, target, number = step
    docs = state[collection]
    if kind == "insert":
        assert target not in docs
        docs[target] = document(thread, target, number, size)
        return
    if kind == "delete":
        del docs[target]
        return
    u = update(thread, kind, target, number, size)
    if kind == "replace":
        docs[target] = {"_id": target, **u}
        return
    new = {**docs[target], "list": list(docs[target]["list"])}
    new.update(u.get("$set", {}))
    if "$inc" in u:
        new["count"] += 1
    if "$push" in u:
        new["list"].append(number)
    docs[target] = new
