"""Make the demo round in `datasets/gsm8k/` from the GSM8K model solutions.

    python3 datasets/scripts/make_gsm8k_round.py SOURCE.jsonl

SOURCE is `grade_school_math/data/example_model_solutions.jsonl` of openai/grade-school-math, one row for
each question, or the same flattened to one row for each question and model:

    {"question", "ground_truth", "6b_finetuning": {"solution", "is_correct"}, ...}
    {"prompt_id", "prompt", "reference", "miner", "response", "correct"}

The four models become honest miners, their answers verbatim. Three copycats join them, which copy
at every prompt and always arrive later than every original of that prompt:

    copycat_exact     the answer of 175b_verification, byte for byte
    copycat_edited    the answer of 175b_finetuning with case, punctuation and white space changed
    copycat_rotating  byte for byte, from another victim than at the prompt before

Written: `round.jsonl` (what a validator sees), `references.jsonl`, and `truth.jsonl` (which answers
are correct and who copied whom: for judging a detector, never an input to one).

Only the standard library. Every draw comes from a generator seeded by its own purpose, so the
bytes do not depend on anything but SOURCE.
"""

import argparse
import json
import random
from pathlib import Path

SEED = "tauscore/gsm8k/1"
QUESTIONS = 240
ORIGINALS = ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"]
EXACT, EDITED, ROTATING = COPYCATS = ["copycat_exact", "copycat_edited", "copycat_rotating"]
VICTIM = {EXACT: "175b_verification", EDITED: "175b_finetuning"}
FIRST_UID = 3  # 0..2 are the validators'
FIRST_BLOCK = 6_000_000
BLOCKS_BETWEEN_PROMPTS = 1  # the whole round fits into one tempo of 360 blocks
ORIGINAL_DELAY = (0, 9)
COPYCAT_DELAY = (10, 29)


def draw(*purpose):
    """A generator of its own for one purpose: a new draw elsewhere shifts nothing here."""
    return random.Random("/".join([SEED, *map(str, purpose)]))


def flat_rows(path):
    """The source as rows of one question and model, whichever of its two forms it has."""
    with open(path, encoding="utf-8") as lines:
        for number, row in enumerate(map(json.loads, lines)):
            if "question" not in row:
                yield row
                continue
            for miner in ORIGINALS:
                yield {
                    "prompt_id": f"gsm{number:04}",
                    "prompt": row["question"],
                    "reference": row["ground_truth"],
                    "miner": miner,
                    "response": row[miner]["solution"],
                    "correct": row[miner]["is_correct"],
                }


def read_questions(path):
    """The first QUESTIONS questions of the source, each with its four answers."""
    questions = {}
    for row in flat_rows(path):
        question = questions.setdefault(
            row["prompt_id"],
            {"prompt": row["prompt"], "reference": row["reference"], "answers": {}, "correct": {}},
        )
        question["answers"][row["miner"]] = row["response"]
        question["correct"][row["miner"]] = bool(row["correct"])
    chosen = dict(list(questions.items())[:QUESTIONS])
    for prompt_id, question in chosen.items():
        if sorted(question["answers"]) != sorted(ORIGINALS):
            raise SystemExit(f"{prompt_id}: expected the answers of {ORIGINALS}, got {list(question['answers'])}")
    return chosen


def assign_uids():
    """One uid for each miner, shuffled: a low uid proves no originality."""
    uids = list(range(FIRST_UID, FIRST_UID + len(ORIGINALS) + len(COPYCATS)))
    draw("uids").shuffle(uids)
    return dict(zip(ORIGINALS + COPYCATS, uids, strict=True))


def rotating_victims(count):
    """A victim for each prompt: each original equally often, never the same one twice running."""
    rng = draw("victims")
    victims = []
    while len(victims) < count:
        lap = ORIGINALS[:]
        rng.shuffle(lap)
        if not victims or lap[0] != victims[-1]:
            victims.extend(lap)
    return victims[:count]


def bare(text):
    """What an edit must leave alone: letters and digits in their order, whatever the case."""
    return "".join(ch for ch in text.casefold() if ch.isalnum())


def edit(text, rng):
    """The text of a copycat who hides: other case, punctuation and white space, the same words."""
    case = rng.choice(["lower", "upper-words", "title-words"])
    words = text.split(" ")
    if case == "lower":
        words = [word.lower() for word in words]
    elif case == "upper-words":
        words = [word.upper() if rng.random() < 0.25 else word for word in words]
    else:
        words = [word[:1].upper() + word[1:] if rng.random() < 0.6 else word for word in words]
    text = " ".join(words)

    edited = []
    for at, ch in enumerate(text):
        following = text[at + 1 : at + 2]
        ends_word = following in ("", " ", "\n")
        if ch in ".,;:" and ends_word and rng.random() < 0.5:
            continue  # drop a mark, never a decimal point or the comma inside 130,000
        edited.append(ch)
        if ch.isalpha() and following == " " and rng.random() < 0.08:
            edited.append(",")
        elif ch.isalnum() and following == "\n" and rng.random() < 0.5:
            edited.append(".")
        elif ch == " " and rng.random() < 0.15:
            edited.append(" ")
        elif ch == "\n" and rng.random() < 0.3:
            edited.append(rng.choice(["\n", "  ", "- "]))
    return "".join(edited) + rng.choice([" ", "\n", "!", " ."])


def make_rows(questions):
    """All rows of the round and of the truth, prompt by prompt."""
    uids = assign_uids()
    victims = rotating_victims(len(questions))
    rows, truth = [], []
    for index, (prompt_id, question) in enumerate(questions.items()):
        copied = {**VICTIM, ROTATING: victims[index]}
        answers = dict(question["answers"])
        for copycat, victim in copied.items():
            answers[copycat] = answers[victim]
        answers[EDITED] = edit(answers[EDITED], draw("edit", prompt_id))
        if answers[EDITED] == question["answers"][copied[EDITED]]:
            raise SystemExit(f"{prompt_id}: the edit changed nothing")
        if bare(answers[EDITED]) != bare(question["answers"][copied[EDITED]]):
            raise SystemExit(f"{prompt_id}: the edit changed a letter or a digit")

        start = FIRST_BLOCK + index * BLOCKS_BETWEEN_PROMPTS
        arrival = draw("arrival", prompt_id)
        group = []
        for miner in ORIGINALS + COPYCATS:
            delay = arrival.randint(*(ORIGINAL_DELAY if miner in ORIGINALS else COPYCAT_DELAY))
            group.append({"miner": miner, "response": answers[miner], "block": start + delay, "uid": uids[miner]})
        draw("order", prompt_id).shuffle(group)
        rows += [
            {"prompt_id": prompt_id} | ({"prompt": question["prompt"]} if first == 0 else {}) | row
            for first, row in enumerate(group)
        ]
        correct = {miner: question["correct"][miner] for miner in ORIGINALS}
        truth.append({"prompt_id": prompt_id, "correct": correct, "copied_from": copied})
    return rows, truth


def write_jsonl(path, rows):
    """One JSON object a line, UTF-8, Unix line ends on every system."""
    text = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
    path.write_bytes(text.encode("utf-8"))
    print(f"{path.name}: {len(rows)} rows, {len(text.encode('utf-8'))} bytes")


def main():
    """Read the source, write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the JSONL of model solutions")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "gsm8k")
    args = parser.parse_args()

    questions = read_questions(args.source)
    rows, truth = make_rows(questions)
    references = [{"prompt_id": key, "reference": question["reference"]} for key, question in questions.items()]
    args.out.mkdir(parents=True, exist_ok=True)
    write_jsonl(args.out / "round.jsonl", rows)
    write_jsonl(args.out / "references.jsonl", references)
    write_jsonl(args.out / "truth.jsonl", truth)


if __name__ == "__main__":
    main()
