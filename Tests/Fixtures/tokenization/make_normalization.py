# Tandem — Apache-2.0
"""Writes normalization.json: texts and their Unicode normalization form C, by Python's unicodedata.

The texts are every character whose form C differs from itself, and seeded random sequences of characters that combine.
Normalization of assigned characters never changes from one version of Unicode to the next, so any later one agrees.
"""

import json
import pathlib
import random
import sys
import unicodedata

NFC = lambda text: unicodedata.normalize("NFC", text)
assigned = [chr(c) for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
changing = [c for c in assigned if NFC(c) != c]
marks = [c for c in assigned if unicodedata.combining(c)]
composing = sorted(
    {d for c in assigned if (n := unicodedata.normalize("NFD", c)) != c and not "\uac00" <= c <= "\ud7a3" for d in n}
)
hangul = [chr(c) for c in [0x1100, 0x1105, 0x1112, 0x1161, 0x1175, 0x11A7, 0x11A8, 0x11C2, 0xAC00, 0xAC01, 0xD7A3]]
plain = list("ae o\u00e9\u4f60\u0431")

random.seed(9)
cases = []
for _ in range(400):
    pool = random.choice([composing, marks, hangul, composing + plain, marks + plain, hangul + plain])
    cases.append("".join(random.choice(random.choice([pool, composing, plain])) for _ in range(random.randint(1, 9))))
result = {
    "characters": [[c, NFC(c)] for c in changing],
    "sequences": [[text, NFC(text)] for text in cases],
}
lines = [json.dumps(key) + ": " + json.dumps(value) for key, value in result.items()]
(pathlib.Path(__file__).parent / "normalization.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
