#!/usr/bin/env python3
"""Turns an archive of the profile `fast` or `small` into the tar stream that it holds.

    scripts/unpack-reference.py rs0.tar.ffz | tar --xattrs --numeric-owner -xpf - -C DIRECTORY

A second reader of the format, written from doc/format.md, part 3, for the day when there is no freezeframe. It needs Python
and the command `zstd`, checks what it reads, and is slow: about ten megabytes a second of what comes out. What was
written before it ends with an error is not all: look at its exit code (`set -o pipefail`). An archive of `small` that holds pages of zlib needs a
Python with zlib itself: where the system has zlib-ng in its place, such a block does not come back as it was.
"""
import struct
import subprocess
import sys
import tempfile
import zlib

MAGIC = b"\x89ffz\r\n\x1a\n"
LARGEST = 128 << 20


def refuse(what):
    sys.exit(f"damaged archive: {what}")


def decompress(frame, size):
    """The content of a zstd frame, which must be `size` bytes long; no more than that is held, whatever the frame says."""
    with tempfile.TemporaryFile() as file:
        file.write(frame)
        file.seek(0)
        zstd = subprocess.Popen(["zstd", "-dc"], stdin=file, stdout=subprocess.PIPE)
        content = zstd.stdout.read(size)
        more = zstd.stdout.read(1)
        zstd.stdout.close()
        if zstd.wait() or more or len(content) != size:
            refuse("a block is not as long as the index says")
    return content


def skippable(frame):
    """The content of a skippable frame."""
    if len(frame) < 8 or frame[:4] != b"\x5b\x2a\x4d\x18" or struct.unpack("<I", frame[4:8])[0] != len(frame) - 8:
        refuse("a frame is not where it should be")
    return frame[8:]


def checked(content):
    """What comes before a CRC32 of it."""
    if struct.pack("<I", zlib.crc32(content[:-4])) != content[-4:]:
        refuse("a checksum is wrong")
    return content[:-4]


class Bytes:
    """Bytes that are taken from the front."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if count > len(self.data) - self.at:
            refuse("it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self):
        """Seven bits a byte, the lowest first; all but the last have the eighth bit set."""
        value = 0
        for shift in range(0, 63, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift:
                    refuse("a number is longer than it need be")
                return value
        refuse("a number is too long")

    def left(self):
        return len(self.data) - self.at


def number(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def crc32c_table():
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        yield byte


CRC32C = list(crc32c_table())


def crc32c(four, crc):
    """The processor's instruction: no complement before or after."""
    crc ^= four
    for _ in range(4):
        crc = crc >> 8 ^ CRC32C[crc & 0xFF]
    return crc


def multiplied(four):
    return four * 0x1E35A7BD & 0xFFFFFFFF


# Number of an encoder: the size of its largest table, and the place in a table of `size` for four bytes.
ENCODERS = {
    1: (1 << 14, lambda four, size: multiplied(four) >> 32 - (size.bit_length() - 1)),
    2: (1 << 15, lambda four, size: (crc32c(four, size - 1 << 1) & size - 1 << 1) >> 1),
    3: (1 << 15, lambda four, size: multiplied(four) >> 17 & size - 1),
    4: (1 << 14, lambda four, size: multiplied(four) >> 18 & size - 1),
}


# The encoder that is none of those.
ZLIB = 5


def literal(out, piece):
    length = len(piece) - 1
    if length < 0:
        return
    if length < 60:
        out.append(length << 2)
    elif length < 256:
        out += bytes([60 << 2, length])
    else:
        out += bytes([61 << 2]) + struct.pack("<H", length)
    out += piece


def copy(out, offset, length):
    if length < 12 and offset < 2048:
        out += bytes([1 | length - 4 << 2 | offset >> 8 << 5, offset & 0xFF])
    else:
        out.append(2 | length - 1 << 2)
        out += struct.pack("<H", offset)


def copies(out, offset, length):
    while length >= 68:
        copy(out, offset, 64)
        length -= 64
    if length > 64:
        copy(out, offset, 60)
        length -= 60
    copy(out, offset, length)


def snappy_fragment(data, encoder, out):
    largest, place = ENCODERS[encoder]
    size = 256
    while size < largest and size < len(data):
        size *= 2
    table, limit, done = [0] * size, len(data) - 15, 0

    def exchange(at):
        """The four bytes there, and where bytes of that hash were last."""
        four = data[at : at + 4]
        slot = place(int.from_bytes(four, "little"), size)
        before, table[slot] = table[slot], at
        return four, before

    while limit >= 0:
        at, skip, found = done + 1, 32, False
        while True:
            step = skip >> 5
            skip += step
            if at + step > limit:
                break
            four, before = exchange(at)
            if data[before : before + 4] == four:
                found = True
                break
            at += step
        if not found:
            break
        literal(out, data[done:at])
        ended = False
        while True:
            length = 4
            while at + length < len(data) and data[before + length] == data[at + length]:
                length += 1
            copies(out, at - before, length)
            at += length
            if at >= limit:
                ended = True
                break
            exchange(at - 1)
            four, before = exchange(at)
            if data[before : before + 4] != four:
                break
        done = at
        if ended:
            break
    literal(out, data[done:])


def snappy(data, encoder):
    out = bytearray(number(len(data)))
    for start in range(0, len(data), 1 << 16):
        snappy_fragment(data[start : start + (1 << 16)], encoder, out)
    return bytes(out)


def restore(content):
    """The piece of the tar stream of which `content` is the transformed form."""
    if len(content) < 4:
        refuse("a block is too short")
    length = struct.unpack("<I", content[-4:])[0]
    if length > len(content) - 4:
        refuse("a block is shorter than its control bytes")
    control = Bytes(content[len(content) - 4 - length : -4])
    payload = Bytes(content[: len(content) - 4 - length])
    plain = bytearray()
    while control.left():
        literals, units = control.number(), control.number()
        plain += payload.take(literals)
        if units == 0:
            continue
        kind = control.take(1)[0]
        if kind & 0x0F not in (*ENCODERS, ZLIB) or kind & 0xF0 not in (0x10, 0x20):
            refuse(f"a kind of unit that is not known: {kind:#x}")
        for _ in range(units):
            if kind & 0xF0 == 0x10:  # a page
                head = payload.take(64)
                memory, disk = struct.unpack_from("<I", head, 16)[0], struct.unpack_from("<I", head, 28)[0]
            else:  # a record of the log
                head = payload.take(16)
                memory, disk = struct.unpack_from("<I", head, 12)[0], 0
            if memory < len(head):
                refuse("a page or record contradicts itself")
            content = payload.take(memory - len(head))
            if kind & 0x0F == ZLIB:
                unit = head + zlib.compress(content, 6)
            else:
                stream = snappy(content, kind & 0x0F)
                unit = head + struct.pack("<Q", len(stream)) + stream
            plain += unit + bytes(max(0, disk - len(unit)))
    if payload.left():
        refuse("a block goes on behind what its control bytes tell of")
    return bytes(plain)


# Type of a field: how many bytes its value has, or what it is.
FIXED = {0x01: 8, 0x07: 12, 0x08: 1, 0x09: 8, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16}
TEXT, DOCUMENT, BINARY, NOTHING = (0x02, 0x0D, 0x0E), (0x03, 0x04), 0x05, (0x06, 0x0A, 0x7F, 0xFF)
END, CELLS = 0x00, 0xF0
# Columns that are always there, by number; a piece of 1 to 64 bytes is in the column of that number and its length.
STRUCTURE, GAPS, FIELDS, LONG, RUNS, DESCRIPTORS, PREFIXES, EXTRAS = range(8)
GAP, KEY, VALUE, EXTRA, FIRST_FIELD = 7, 71, 135, 199, 264


def column(form, width, data):
    """The bytes of a column as they were."""
    if form == 0:
        return data
    if not 2 <= width <= 64 or len(data) % width or (form == 3 and width not in (4, 8)):
        refuse("a column has a width that it cannot have")
    count = len(data) // width
    values = bytearray(len(data))
    for lane in range(width):
        values[lane::width] = data[lane * count : (lane + 1) * count]
    if form == 2:
        for at in range(width, len(values)):
            values[at] = values[at] + values[at - width] & 0xFF
    elif form == 3:
        before = 0
        for at in range(0, len(values), width):
            step = int.from_bytes(values[at : at + width], "little")
            before = before + (step >> 1 if step & 1 == 0 else -(step >> 1) - 1) & (1 << 8 * width) - 1
            values[at : at + width] = before.to_bytes(width, "little")
    elif form != 1:
        refuse(f"a form of columns that is not known: {form}")
    return bytes(values)


def columns(shredded):
    length = struct.unpack("<I", shredded[-4:])[0]
    directory = Bytes(shredded[len(shredded) - 4 - length : -4])
    data = Bytes(shredded[: len(shredded) - 4 - length])
    while directory.left():
        size = directory.number()
        form = directory.take(1)[0] if size else 0
        width = directory.number() if form else 0
        yield Bytes(column(form, width, data.take(size)))
    if data.left():
        refuse("there are more columns than the directory tells of")


class Field:
    """Type, name, columns, and which fields are expected within it and behind it."""

    def __init__(self, kind=0x03, name=b"", numbered=False, place=None):
        self.kind, self.name, self.numbered, self.place = kind, name, numbered, place
        self.first, self.next = (0, 0), (0, 0)


def packed(data):
    """Length of a packed number of WiredTiger's, and the number."""
    first = data[0]
    if first >> 6 == 2:
        return 1, first & 0x3F
    if first >> 5 == 6:
        return 2, ((first & 0x1F) << 8 | data[1]) + 64
    if first >> 5 == 7:
        length = first & 0x0F
        if length > 8:
            refuse("a cell has a number that is too long")
        return 1 + length, int.from_bytes(data[1 : 1 + length], "big") + 64 + 8192
    refuse("a cell contradicts itself")


def cell(descriptor, extra):
    """Bytes of data of a cell that is not short."""
    at, windowed, count = 0, descriptor & 0x08, 0
    if windowed:
        if extra[0] & 0x80:
            refuse("a cell contradicts itself")
        numbers, at = bin(extra[0] & 0x7E).count("1"), 1
        for _ in range(numbers):
            at += packed(extra[at:])[0]
    if descriptor & 0x04:
        length, count = packed(extra[at:])
        at += length
    length, size = packed(extra[at:])
    if at + length != len(extra) or descriptor >> 4 not in (5, 7, 8):
        refuse("a cell contradicts itself")
    return size if descriptor >> 4 == 8 and (windowed or count) else size + 64


class Shredded:
    """A shredded payload while it is put together."""

    def __init__(self, data):
        self.columns = list(columns(data))
        self.fields, place = [Field()], FIRST_FIELD
        listed = self.columns[FIELDS]
        while listed.left():
            number_ = listed.number()
            kind, name = listed.take(1)[0], bytearray()
            if kind not in (END, CELLS) and not number_ & 1:
                while not name or name[-1]:
                    name += listed.take(1)
            known = kind in (*FIXED, *TEXT, *DOCUMENT, BINARY, *NOTHING, END, CELLS)
            if not known or number_ >> 1 >= len(self.fields) or len(self.fields) > 65535 or len(name) > 256:
                refuse("the list of fields is not sound")
            if kind in (END, CELLS) and number_ & 1 or kind == CELLS and number_ >> 1:
                refuse("the list of fields is not sound")
            self.fields.append(Field(kind, bytes(name), number_ & 1, place))
            place += 2 if kind == BINARY else kind in FIXED or kind in TEXT
        if place != len(self.columns):
            refuse("there are other columns than those of the fields")
        self.out, self.expected = bytearray(), self.columns[STRUCTURE].number()

    def payload(self):
        while True:
            self.piece(GAP, self.columns[GAPS].number())
            if not self.columns[GAPS].left():
                break
            first = self.come(0, 0)
            if self.fields[first].kind == CELLS:
                self.cells()
            else:
                self.document(0, first, 0)
        if self.expected or any(column.left() for column in self.columns):
            refuse("a payload goes on behind its structure")
        return bytes(self.out)

    def piece(self, base, length):
        if length:
            self.out += self.columns[base + length if length <= 64 else LONG].take(length)

    def come(self, parent, previous):
        """The number of the field behind `previous`, or of the first in `parent`."""
        likely, other = self.fields[previous].next if previous else self.fields[parent].first
        if self.expected:
            self.expected -= 1
            if likely == 0:
                refuse("a field is expected that is none")
            return likely
        number_ = self.columns[STRUCTURE].number() or other
        self.expected = self.columns[STRUCTURE].number()
        if not 0 < number_ < len(self.fields):
            refuse("a field comes that is none")
        if previous:
            self.fields[previous].next = (number_, likely)
        else:
            self.fields[parent].first = (number_, likely)
        return number_

    def document(self, parent, first, depth):
        if depth > 100:
            refuse("documents are too deep in documents")
        start, count, number_ = len(self.out), 0, first
        self.out += bytes(4)
        while True:
            field = self.fields[number_]
            self.out.append(field.kind)
            self.out += b"%d\0" % count if field.numbered else field.name
            count += 1
            if field.kind == END:
                self.out[start : start + 4] = struct.pack("<I", len(self.out) - start)
                return
            if field.kind in FIXED:
                self.out += self.columns[field.place].take(FIXED[field.kind])
            elif field.kind in TEXT:
                text = self.columns[field.place]
                length = text.data.index(b"\0", text.at) + 1 - text.at
                self.out += struct.pack("<I", length) + text.take(length)
            elif field.kind == BINARY:
                length = self.columns[field.place].number()
                self.out += struct.pack("<I", length) + self.columns[field.place].take(1)
                self.out += self.columns[field.place + 1].take(length)
            elif field.kind in DOCUMENT:
                self.document(number_, self.come(number_, 0), depth + 1)
            elif field.kind not in NOTHING:
                refuse("a field of a type that is not known")
            number_ = self.come(parent, number_)

    def cells(self):
        for _ in range(self.columns[RUNS].number()):
            descriptor = self.columns[DESCRIPTORS].take(1)
            self.out += descriptor
            kind, short = descriptor[0] >> 4, descriptor[0] & 3
            if short == 2 or (short == 0 and kind == 7):
                self.out += self.columns[PREFIXES].take(1)
            if short:
                self.piece(VALUE if short == 3 else KEY, descriptor[0] >> 2)
                continue
            length = self.columns[EXTRAS].number()
            self.piece(EXTRA, length)
            data = cell(descriptor[0], self.out[len(self.out) - length :])
            self.piece(VALUE if kind == 8 else KEY, data)


def unmark(content):
    """A transformed block without its mark, its payload put together if it is shredded."""
    content, mark = content[:-1], content[-1]
    if mark > 1:
        refuse("a block does not say how it is made")
    if mark == 0:
        return content
    control = struct.unpack("<I", content[-4:])[0] + 4
    return Shredded(content[:-control]).payload() + content[-control:]


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    with open(sys.argv[1], "rb") as archive:
        head = archive.read(32)
        if head[8:16] != MAGIC:
            sys.exit("this is no archive of the profile `fast` or `small`; one of `portable` is opened by `tar xJf`")
        head = skippable(head)
        version = head[8]
        if version not in (1, 2):
            sys.exit("this archive is of a later version")
        plain_limit, content_limit = struct.unpack_from("<II", checked(head), 12)
        if max(plain_limit, content_limit) > LARGEST:
            refuse("its blocks are too large")
        end = archive.seek(-28, 2)
        footer = skippable(archive.read(28))
        if footer[12:] != MAGIC:
            refuse("it does not end as an archive does")
        index_size = struct.unpack("<Q", checked(footer[:12]))[0]
        archive.seek(end - index_size)
        index = Bytes(checked(skippable(archive.read(index_size))))
        blocks = [(index.number(), index.number(), index.number(), index.take(4)) for _ in range(index.number())]
        if index.left() or 32 + sum(block[0] for block in blocks) + index_size + 28 != end + 28:
            refuse("the index does not account for every byte")
        archive.seek(32)
        for stored, size, plain_size, checksum in blocks:
            if not 0 < plain_size <= plain_limit or not 0 < size <= content_limit:
                refuse("a block is too large, or nothing")
            content = decompress(archive.read(stored), size)
            content = content if version == 1 else unmark(content)
            plain = restore(content)
            if len(plain) != plain_size or struct.pack("<I", zlib.crc32(plain)) != checksum:
                refuse("a block does not come back as it was")
            sys.stdout.buffer.write(plain)


try:
    main()
except OSError as error:
    sys.exit(f"{sys.argv[1]}: {error}")
except (IndexError, ValueError, struct.error) as error:
    refuse(f"a block ends too early or contradicts itself ({error})")
