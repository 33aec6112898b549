"""Lines of a .case file that stand for several: `each NAME ...` is a case for every combination of its choices.

    each sizes f32[{m=1|5},{k=1|17}] f32[{k},{1|33}] alpha={1.0|-0.5}

is 16 cases, sizes_1 to sizes_16. {A|B} is a choice, {NAME=A|B} one that has a name (a single word, too), and any other
{EXPRESSION} is computed of the named ones: {k}, {k // 8}, {n * 3}. Choices may hold expressions, and may be empty.
"""
import re

BRACES = re.compile(r"\{([^{}]*)\}")
CHOICE = re.compile(r"(?:(\w+)=)?(.*)", re.S)
MOST = 64       # cases of one line


def first_choice(text):
    for match in BRACES.finditer(text):
        if "|" in match[1] or re.match(r"\w+=", match[1]):
            return match
    return None


def value_of(word):
    try:
        return int(word)
    except ValueError:
        return word


def computed(text, names):
    """The text with its expressions computed, innermost first, as far as their names are known."""
    def compute(match):
        if "|" in match[1] or re.match(r"\w+=", match[1]):
            return match[0]
        try:
            return str(eval(match[1], {"__builtins__": {}}, dict(names)))
        except NameError:
            return match[0]
    for _ in range(4):
        text = BRACES.sub(compute, text)
    return text


def expand(text, names=()):
    """All texts that the choices give."""
    names = dict(names)
    text = computed(text, names)
    choice = first_choice(text)
    if not choice:
        return [text]
    name, words = CHOICE.fullmatch(choice[1]).groups()
    made = []
    for word in words.split("|"):
        more = {**names, name: value_of(word)} if name else names
        made += expand(text[:choice.start()] + word + text[choice.end():], more)
    return made


def case_lines(lines):
    """[(number, line)] with the lines that begin with `each` expanded to cases."""
    made = []
    for number, line in enumerate(lines, 1):
        head, _, rest = line.strip().partition(" ")
        if head != "each":
            made.append((number, line))
            continue
        name, _, rest = rest.partition(" ")
        texts = expand(rest)
        if len(texts) > MOST or any(BRACES.search(t) for t in texts):
            raise ValueError(f"line {number}: {len(texts)} cases, at most {MOST}; braces that are left: {texts[0]}")
        made += [(number, f"case {name}_{i} {t}") for i, t in enumerate(texts, 1)]
    return made
