"""What may happen to bytes and to texts: seeded, so that every case can be repeated."""

import re

from fuzz.world import EVIL

ESCAPES = (
    "\x1b[2J", "\x1b]0;owned\x07", "\r", "\x00", "\x7f", "\x9b31m", "\u202e", "\u2028", "\ufeff",
    "\ud800", "\U0001f408", "a\u0300" * 40, "\u200b",
)  # fmt: skip
NUMBERS = (
    "0", "-1", "1", "2", "7", "0.5", "1e-300", "1e308", "1e400", "-0.0", "nan", "inf", "-inf",
    "9" * 400, "9" * 5000, "0x" + "f" * 6000, "1" + "0" * 400 + ".0", "1_000", "2**63", "1j",
    "9007199254740993", "18446744073709551616", "True", "None", "[]", '""', "{}", "1979-05-27",
)  # fmt: skip
STRANGERS = (
    f"{EVIL}:f", f"{EVIL}:f()", "this:s", "socket:socket(fileno=1)", "unittest.mock:call",
    "ctypes:cdll.evil", "os:_exit(0)", "builtins:exit()", "pydnn.cli:main", f"{EVIL}.sub:f",
    "pydnn.descriptions.builders:importlib.sys.exit()", "antigravity:x", "pydnn:relu",
)  # fmt: skip
# Of these modules nothing that pydnn needs has imported one before.
STRANGE_MODULES = {EVIL, "this", "antigravity", "unittest.mock"}
PARTS = (
    "dense(1)", "dense(3)", "relu", "dropout(keep_prob=1e-9)", "batch_norm()", "serial()",
    "layer_norm(epsilon=1)", "residual(dense(5))", "parallel(dense(1), dense(1))", "identity()",
    "gelu(approximate=True)", "softplus()", "elu(alpha=1e300)",
    "dense(1, initializer=constant(1e308))",
    "mean_squared()", "softmax_cross_entropy()", "poisson()", "huber(delta=1e-300)", "dense",
    "adam(learning_rate=1e300)", "lion(learning_rate=-1)", "average_parameters()",
    "accumulate(adam(), batches=2)", "skip_not_finite(adam())", "freeze_layers('0')",
    "chain()", "chain(look('x'), descend(0.1))", "look('\\x1b[2J')",
    "scale_layers('9', factor=2.0)",
    "gradient_noise(1.0)", "one_cycle(1.0, steps=2, rising=0.5)", "warm_up(0, then=1.0)",
    "joined([0.1, 0.2], starts=[1])", "exponential_decay(0.1, factor=1e300)",
    "cosine_decay(0.1, steps=1)", "mini_batches(1)", "mini_batches(1000000000)", "full_batch()",
    "mini_batches(7, keep_last=False)", "tutorial(seed=0)", "l1_penalty(1e308)", "l2_penalty(-1)",
)  # fmt: skip


def damaged_bytes(rng, data: bytes) -> bytes:
    """The bytes after one to three accidents."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(data) + 1)
        size = min(rng.choice((1, 2, 8, 64, 512)), len(data) - at)
        there, after = data[at : at + size], data[at + size :]
        other = rng.randrange(len(data) + 1)
        match rng.randrange(9):
            case 0 | 1 if size:
                there = bytes([there[0] ^ (1 << rng.randrange(8))]) + there[1:]
            case 2 if size:
                there = bytes([rng.choice((0, 1, 2, 0x7F, 0x80, 0xFF))]) + there[1:]
            case 3:
                there = b""
            case 4:
                after = b""
            case 5:
                there += rng.randbytes(size)
            case 6:
                there = bytes(size)
            case 7:
                there += there
            case 8:
                there = data[other : other + size]
        data = data[:at] + there + after
    return data


_TOKENS = re.compile(r"\w[\w.+-]*|\s+|.", re.DOTALL)
_A_KEY = r"(?ms)^{} = (?:(\"\"\"|\'\'\').*?\1|[^\n]*)\n"


def damaged_text(rng, text: str) -> bytes:
    """The text with one key changed, or after one to three edits of its tokens."""
    text = with_line(text, strange_line(rng)) if rng.random() < 0.5 else _edited(rng, text)
    encoded = text.encode(errors="surrogatepass")
    return b"\xef\xbb\xbf" + encoded if rng.random() < 0.02 else encoded


def with_line(text: str, line: str) -> str:
    """The text of a recipe with this line at its front, instead of what it says of the same key."""
    key = re.escape(line.partition(" ")[0])
    return line + re.sub(_A_KEY.format(key), "", text)


def _edited(rng, text):
    tokens = _TOKENS.findall(text)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(tokens))
        match rng.randrange(6):
            case 0:
                del tokens[at : at + rng.choice((1, 1, 3, 10))]
            case 1:
                tokens[at] *= rng.choice((2, 2, 3, 5000))
            case 2:
                tokens[at] = rng.choice(tokens)
            case 3 if re.fullmatch(r"[\d.+e-]+", tokens[at]):
                tokens[at] = rng.choice(NUMBERS)
            case 3 | 4:
                tokens[at] = rng.choice(PARTS + STRANGERS + ESCAPES + NUMBERS)
            case 5:
                tokens.insert(at, rng.choice(ESCAPES + NUMBERS + PARTS))
        tokens = tokens or ["\n"]
    return "".join(tokens)


def call(rng) -> str:
    """A call that may mean anything, and is too deep, too long, too large or a stranger's."""
    depth = rng.choice((2, 5, 30, 90, 400, 5000))
    name = rng.choice(("serial", "residual", "parallel", "chain"))
    number, part = rng.choice(NUMBERS), rng.choice(PARTS)
    return rng.choice(
        (
            f"{name}(" * depth + part + ")" * depth,
            f"{name}({', '.join([part] * rng.choice((3, 100, 3000)))})",
            f"dense({number})",
            f"serial(dense({number}), dense(1))",
            f"adam(learning_rate={number})",
            f"mini_batches({number})",
            f"serial({rng.choice(STRANGERS)}, dense(1))",
            f"dense(1, initializer={rng.choice(STRANGERS)})",
            "[" * depth + "]" * depth,
            "-" * depth + "1",
            "(" * depth,
            f"dense(units='{rng.choice(ESCAPES)}')",
            f"{part[:-1]}, {rng.choice(ESCAPES)}=1)",
            f"dense(**{part})",
            f"dense(2, initializer={part})",
            f"adam(learning_rate={part})",
            f"l2_penalty({number}, only={part})",
            f"accumulate({part}, batches={number})",
            f"joined([{part}, {number}], starts=[{number}])",
            f"{part}.x",
            f"lambda: {part}",
            "dense(100000000)",
            "serial(dense(30000), dense(30000), dense(1))",
            "dense(1) if 1 else relu()",
            f"f'{part}'",
            "x" * rng.choice((100, 100_000)),
        )
    )


def strange_line(rng) -> str:
    """A line of TOML, or nearly, that asks for something strange, or grows beyond all bounds."""
    many = rng.choice((50, 3000, 30000))
    number, mark = rng.choice(NUMBERS), rng.choice(ESCAPES)
    part = rng.choice((rng.choice(PARTS), rng.choice(STRANGERS), call(rng), call(rng)))
    place = rng.choice(("/dev/zero", "/dev/stdin", "pipe", "~", "..", "/", "", mark, "n" * many))
    key = rng.choice(("network", "network", "network", "loss", "optimizer", "batches", "weights"))
    counted = rng.choice(("seed", "iterations", "validation", "patience", "evaluate_every"))
    return rng.choice(
        (
            f'{key} = "{part}"\n',
            f"{key} = '''{part}'''\n",
            f'penalties = ["{part}"]\n',
            f"{counted} = {number}\n",
            f"{counted} = {number}\n",
            f'{rng.choice(("rotate", "dtype", "numerics", "standardize", "watch"))} = "{mark}"\n',
            f'data = "{place}"\n',
            f"{'.'.join(['a'] * many)} = 1\n",
            f"x = {'[' * many}{']' * many}\n",
            f"x = {'{a=' * many}1{'}' * many}\n",
            f'"{mark}" = 1\n',
            f'"{"n" * many}" = 1\n',
            f"{rng.choice(('epochs', 'learning_rate', 'units', '__class__'))} = {number}\n",
            f"recorded = {number}\n",
        )
    )
