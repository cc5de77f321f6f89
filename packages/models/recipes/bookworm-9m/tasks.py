"""Text, tokenizer and tasks of bookworm-9m.

A task hides short statements in book text and asks about them. The same lines serve training and evaluation, and
`packages/models/src/tasks/` writes the same lines in TypeScript:

    needle, multi-key    "\nThe secret number of Ada of the garden is 482130.\n"
                         "\nQuestion: what is the secret number of Ada of the garden? Answer:" -> " 482130."
    variable tracking    "\nLet K = 48213.\n"   "\nLet Q = K.\n"   "\nLet T = Q.\n"
      value form         "\nQuestion: what is the value of T? Answer:" -> " 48213."
      trace form         "\nQuestion: trace the value of T. Answer:" -> " Q, K, 48213."

Every line is tokenized on its own and joined as ids, so a prompt has an exact length whatever stands beside the line.
"""

import functools
import json
import os
import random
import tarfile

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 4096
BOS = 0
HELD_OUT = ["pride_and_prejudice", "time_machine", "moby_dick", "on_liberty"]

NAMES = (
    "Ada Bram Clara Dorian Edith Felix Greta Hugo Iris Jonas Klara Leo Mina Noel Olga Piet Quinn Rosa Simon Tilda "
    "Ursula Viktor Wanda Xaver Yara Zeno"
).split()
THINGS = "garden harbour library tower cellar bridge orchard station mill chapel lantern carriage".split()
# One letter is one token. "A", "a", "I", "i", "O" and "o" are words of the books, so they
# name no variable.
VARIABLES = list("BCDEFGHJKLMNPQRSTUVWXYZbcdefghjklmnpqrstuvwxyz")

# Class of a target token. Each class is averaged by itself in the loss: in one common mean the few answer tokens drown
# in the text and retrieval is never learned.
IGNORED, TEXT, ANSWER, REPEAT, VALUE, TRACE = range(6)
CLASS_NAMES = ["ignored", "text", "answer", "repeat", "value", "trace"]


# ---------------------------------------------------------------------------------------------------------- books


def read_books(path):
    """{name: text} of every .txt file in a tar archive."""
    with tarfile.open(path) as archive:
        return {
            os.path.basename(m.name)[:-4]: archive.extractfile(m).read().decode("utf8")
            for m in archive.getmembers()
            if m.name.endswith(".txt")
        }


def train_tokenizer(books, path):
    """Byte-level BPE with every digit alone, written as compact JSON. The words of the task lines are shown often enough
    to become tokens of their own: questions are then shorter and a window holds more of them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    pieces = [b[i : i + 20000] for b in books for i in range(0, min(len(b), 400000), 20000)]
    words = "Question: what is the secret number of x? Answer: trace the value of x. Answer:\nLet x = "
    pieces += [words + " ".join(["", *NAMES, *THINGS, *VARIABLES])] * 3000
    tokenizer.train_from_iterator(
        pieces,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=["<|bos|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    with open(path, "w") as f:
        json.dump(json.loads(tokenizer.to_str()), f, ensure_ascii=False, separators=(",", ":"))


def encode_books(tokenizer, books):
    """All books as one int16 row of ids, each book after a BOS."""
    parts = []
    for book in books:
        pieces = tokenizer.encode_batch([book[i : i + 50000] for i in range(0, len(book), 50000)])
        parts += [[BOS]] + [p.ids for p in pieces]
    return np.concatenate([np.asarray(p, dtype=np.int16) for p in parts])


# ---------------------------------------------------------------------------------------------------------- lines


class Lines:
    """The task lines as ids, with the tokenizer's work remembered."""

    def __init__(self, tokenizer):
        self.encode = functools.lru_cache(maxsize=100_000)(lambda s: tokenizer.encode(s).ids)
        self.digits = {d: tokenizer.encode(d).ids for d in "0123456789"}
        assert all(len(v) == 1 for v in self.digits.values())
        assert all(len(tokenizer.encode(f" {v}").ids) == 1 for v in VARIABLES)

    def number(self, digits):
        return self.encode(" ") + [self.digits[d][0] for d in digits]

    def fact(self, key, value):
        return self.encode(f"\nThe secret number of {key} is") + self.number(value) + self.encode(".\n")

    def fact_question(self, key):
        return self.encode(f"\nQuestion: what is the secret number of {key}? Answer:")

    def fact_answer(self, value):
        return self.number(value) + self.encode(".")

    def assign_value(self, name, value):
        return self.encode(f"\nLet {name} =") + self.number(value) + self.encode(".\n")

    def assign_name(self, name, source):
        return self.encode(f"\nLet {name} = {source}.\n")

    def value_question(self, name):
        return self.encode(f"\nQuestion: what is the value of {name}? Answer:")

    def trace_question(self, name):
        return self.encode(f"\nQuestion: trace the value of {name}. Answer:")

    def trace_answer(self, chain, value):
        """`chain` runs from the root to the asked name; the answer walks back from it to the value."""
        ids = []
        for name in reversed(chain[:-1]):
            ids += self.encode(f" {name},")
        return ids + self.number(value) + self.encode(".")


def random_digits(r, count):
    return "".join(r.choice("0123456789") for _ in range(count))


def random_keys(r, count):
    """Distinct keys; about half come in groups that share a name or a thing, so that half a key is not enough."""
    keys = []
    while len(keys) < count:
        if r.random() < 0.5:
            group = [f"{r.choice(NAMES)} of the {r.choice(THINGS)}"]
        else:
            group = look_alikes(r, min(count - len(keys), r.randrange(2, 6)))
        keys += [k for k in group if k not in keys]
    return keys


def look_alikes(r, count):
    """`count` distinct keys with the same name or the same thing."""
    if r.random() < 0.5:
        name = r.choice(NAMES)
        return [f"{name} of the {t}" for t in r.sample(THINGS, count)]
    thing = r.choice(THINGS)
    return [f"{n} of the {thing}" for n in r.sample(NAMES, count)]


# ----------------------------------------------------------------------------------------------- training windows


class Windows:
    """Training windows of length+1 tokens with a class for every token."""

    def __init__(self, ids, lines):
        self.ids, self.lines = ids, lines

    def sample(self, length, r):
        start = r.randrange(0, len(self.ids) - length - 1)
        text = self.ids[start : start + length + 1].copy()
        text[0] = BOS
        kind = r.random()
        if kind < 0.12:
            return self.repeats(text, length, r)
        events = []
        if kind < 0.42 or kind > 0.87:
            events += self.facts(length, r, share=1.0 if kind < 0.42 else 0.4)
        if kind >= 0.42:
            events += self.variables(length, r, share=1.0 if kind <= 0.87 else 0.5)
        return self.weave(text, events, length, r)

    def repeats(self, text, length, r):
        """Passages (of the book, or random ids) that come twice: the plainest form of looking back."""
        classes = np.full(length + 1, TEXT, dtype=np.uint8)
        size = r.choice([16, 32, 64, 128])
        for _ in range(max(1, min(8, length // (6 * size)))):
            a = r.randrange(1, length - 2 * size)
            b = r.randrange(a + size, length - size)
            if r.random() < 0.6:
                passage = np.array([r.randrange(1, VOCABULARY) for _ in range(size)], dtype=np.int16)
            else:
                passage = text[a : a + size].copy()
            text[a : a + size] = passage
            text[b : b + size] = passage
            classes[a : a + size] = IGNORED
            classes[b : b + 2] = IGNORED
            classes[b + 2 : b + size] = REPEAT
        return text, classes

    def facts(self, length, r, share):
        """(position, ids, answer, class) of facts and questions; each key is asked at most once, so that no answer
        can be copied from an earlier answer."""
        count = many(r, share * min(48, length / 48))
        events = []
        for key in random_keys(r, count):
            value, at = random_digits(r, 6), r.random() * 0.9
            events.append((at, self.lines.fact(key, value), None, IGNORED))
            events.append((after(r, at), self.lines.fact_question(key), self.lines.fact_answer(value), ANSWER))
        return events

    def variables(self, length, r, share):
        """Chains of one to three assignments. Each name is asked at most once, in one of the two forms."""
        count = many(r, share * min(15, length / 80))
        names = r.sample(VARIABLES, min(len(VARIABLES), 3 * count))
        events = []
        for _ in range(count):
            size = r.choices([1, 2, 3], [0.15, 0.3, 0.55])[0]
            chain, value = [names.pop() for _ in range(size)], random_digits(r, 5)
            places = sorted(r.random() * 0.9 for _ in range(size))
            for i, (name, at) in enumerate(zip(chain, places)):
                line = self.lines.assign_name(name, chain[i - 1]) if i else self.lines.assign_value(name, value)
                events.append((at, line, None, IGNORED))
                if r.random() > [0.4, 0.75, 0.95][i]:
                    continue
                if r.random() < 0.65:
                    question, answer, kind = self.lines.value_question(name), self.lines.fact_answer(value), VALUE
                else:
                    question, kind = self.lines.trace_question(name), TRACE
                    answer = self.lines.trace_answer(chain[: i + 1], value)
                events.append((after(r, at), question, answer, kind))
        return events

    def weave(self, text, events, length, r):
        """Put the events into the text at their relative places; questions beyond 85 % of the window are dropped."""
        size = lambda e: len(e[1]) + len(e[2] or ())
        total = sum(map(size, events))
        while total > 0.85 * length:
            questions = [i for i, e in enumerate(events) if e[2] is not None]
            total -= size(events.pop(r.choice(questions)))
        events.sort(key=lambda e: e[0])
        room, ids, classes, done = length + 1 - total, [], [], 0

        def add(piece, kind):
            ids.append(np.asarray(piece, dtype=np.int16))
            classes.append(np.full(len(piece), kind, dtype=np.uint8))

        for place, line, answer, kind in events:
            cut = max(1, int(place * room))
            add(text[done:cut], TEXT)
            add(line, IGNORED)
            if answer is not None:
                add(answer, kind)
            done = cut
        add(text[done:room], TEXT)
        return np.concatenate(ids), np.concatenate(classes)


def many(r, most):
    """A count from 1 to `most`, larger ones more often: they teach more per window."""
    return max(1, int(max(1.0, most) ** (r.random() ** 0.5)))


def after(r, place):
    """A relative place after `place`; three in ten stand at the very end, as in the evaluation."""
    return 0.999 if r.random() < 0.3 else place + (1 - place) * r.random()


# ----------------------------------------------------------------------------------------------------- evaluation


def hide(text, lines, question, length, places, r):
    """Exactly `length` ids: BOS, held-out text with `lines` at relative `places` (ascending), `question` at the end."""
    room = length - 1 - len(question) - sum(map(len, lines))
    start = r.randrange(0, len(text) - room)
    ids, done = [BOS], 0
    for line, place in zip(lines, places):
        cut = int(place * room)
        ids += text[start + done : start + cut].tolist() + line
        done = cut
    ids += text[start + done : start + room].tolist() + question
    assert len(ids) == length
    return ids


def needle(text, lines, length, r, depth):
    """One fact at relative `depth`; its six digits are asked."""
    (key,), value = random_keys(r, 1), random_digits(r, 6)
    prompt = hide(text, [lines.fact(key, value)], lines.fact_question(key), length, [depth], r)
    return prompt, lines.fact_answer(value)


def multi_key(text, lines, length, r, depth):
    """Four facts whose keys share a name or a thing; one is asked. Guessing among the four gives 25 %."""
    keys = look_alikes(r, 4)
    values = [random_digits(r, 6) for _ in keys]
    asked = r.randrange(4)
    places = sorted(r.random() for _ in keys)
    prompt = hide(
        text, [lines.fact(k, v) for k, v in zip(keys, values)], lines.fact_question(keys[asked]), length, places, r
    )
    return prompt, lines.fact_answer(values[asked])


def variable_tracking(text, lines, length, r, depth, chains=2, trace=False):
    """`chains` chains of three assignments each, mixed; the last name of the first chain is asked (two hops).
    Guessing among the values gives 1 / chains."""
    names = r.sample(VARIABLES, 3 * chains)
    groups = [names[3 * i : 3 * i + 3] for i in range(chains)]
    values = [random_digits(r, 5) for _ in groups]
    statements = []
    for (a, b, c), value in zip(groups, values):
        at = sorted(r.random() for _ in range(3))
        statements += zip(at, [lines.assign_value(a, value), lines.assign_name(b, a), lines.assign_name(c, b)])
    statements.sort(key=lambda s: s[0])
    asked = groups[0]
    question = lines.trace_question(asked[2]) if trace else lines.value_question(asked[2])
    answer = lines.trace_answer(asked, values[0]) if trace else lines.fact_answer(values[0])
    return hide(text, [s[1] for s in statements], question, length, [s[0] for s in statements], r), answer


TASKS = {
    "needle": needle,
    "multi_key": multi_key,
    "tracking_value": variable_tracking,
    "tracking_value_4_chains": functools.partial(variable_tracking, chains=4),
    "tracking_trace": functools.partial(variable_tracking, trace=True),
    "tracking_trace_4_chains": functools.partial(variable_tracking, chains=4, trace=True),
}


def evaluation_set(task, text, lines, length, count, seed=99):
    """`count` (prompt, answer) pairs as two int arrays [count, length] and [count, answer length]."""
    r = random.Random(f"{task} {length} {seed}")
    pairs = [TASKS[task](text, lines, length, r, (i % 10 + 0.5) / 10) for i in range(count)]
    prompts, answers = zip(*pairs)
    return np.array(prompts, dtype=np.int64), np.array(answers, dtype=np.int64)
