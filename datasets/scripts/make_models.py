"""Make the tiny random encoders in `datasets/models/`, with golden embeddings from PyTorch.

    python datasets/scripts/make_models.py [--out DIR]

They mean nothing; they are there so that every path of a BERT-family loader and encoder is tested
without a download: three weight types, head sizes 12 to 128, both poolings, two activations, tensor
names with and without the `bert.` prefix, tensors nobody needs, a cased tokenizer, special tokens at
other ids, and a tokenizer.json whose own truncation and padding must be overridden.

Weights are seeded by numpy and rounded to the stored type; the goldens are then computed from the
*stored* values by transformers' BertModel in f64, each text alone and unpadded, pooled, divided by
the L2 norm, and rounded once to f32. The versions used stand in each golden.json.
"""

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # goldens come from the CPU

import numpy as np
import tokenizers
import torch
import transformers
from safetensors.torch import save
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

torch.set_num_threads(1)  # one order of summation


@dataclass(frozen=True)
class Variant:
    """One model: its shape, how its weights are stored, and which sentence-transformers files it has."""

    name: str
    dtype: torch.dtype
    layers: int
    hidden: int
    heads: int
    ffn: int
    positions: int
    std: float
    activation: str = "gelu"
    eps: float = 1e-12
    types: int = 2
    pooling: str = "mean"
    has_pooling_folder: bool = True
    max_seq_length: int | None = None
    prefix: str = ""
    cased: bool = False
    specials_last: bool = False
    tokenizer_trap: bool = False

    @property
    def limit(self):
        """Tokens a text may have, [CLS] and [SEP] included."""
        return self.max_seq_length or self.positions


VARIANTS = [
    Variant("f32-mean", torch.float32, 3, 96, 3, 200, 64, 0.14, max_seq_length=48, tokenizer_trap=True),
    Variant("f16-cls", torch.float16, 2, 64, 1, 256, 64, 0.16, pooling="cls", max_seq_length=32, prefix="bert."),
    Variant("bf16-relu", torch.bfloat16, 2, 48, 4, 100, 64, 0.20, activation="relu"),
    Variant(
        "f32-cased",
        torch.float32,
        1,
        128,
        1,
        64,
        40,
        0.12,
        eps=1e-5,
        types=1,
        has_pooling_folder=False,
        max_seq_length=40,
        cased=True,
        specials_last=True,
    ),
]

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = """
the of and to in is that it for was on are as with his they at be this from have or by one had not but what
all were when we there can an your which their said if do will each about how up out them then she many some
so these would other into has more her two like him see time could no make than first been its who now people
my made over did down only way find use may water long little very after words called just where most know
hello world quick brown fox jump lazy dog score miner answer weight validator round block reply question
eggs day week hour dollar cost total half twice per sell buy money price number left each read text model
""".split()
PIECES = """
ing ed er ly es tion ment able ness ful less est ity ous ive al en ize ism ist ship hood ward th st nd rd
un re in on an or ar al el le ow ou ea ee oo ai ck sh ch
""".split()


def unique(items):
    """The items in order, each once."""
    return list(dict.fromkeys(items))


def vocabulary(variant):
    """Special tokens, ASCII characters, their ## pieces, and common words, in a fixed order."""
    characters = [chr(code) for code in range(33, 127)]
    if not variant.cased:
        characters = unique(ch.lower() for ch in characters)
    inner = ["##" + ch for ch in characters if ch.isalnum()]
    if variant.cased:  # a small one, to keep the wide f32 table small; it also has accents of its own
        plain = characters + ["é", "ü", "Ω"] + inner + ["##é"] + WORDS[:40] + ["The", "Hello"]
    else:
        plain = characters + inner + WORDS + ["##" + piece for piece in PIECES] + ["中", "##s'"]
    plain = unique(plain)
    return plain + SPECIALS if variant.specials_last else SPECIALS + plain


def make_tokenizer(variant):
    """A WordPiece tokenizer of BERT's usual parts."""
    ids = {token: index for index, token in enumerate(vocabulary(variant))}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=not variant.cased
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    tokenizer.decoder = tokenizers.decoders.WordPiece(prefix="##")
    # In the order of their ids, so that adding them changes none.
    tokenizer.add_special_tokens(SPECIALS)
    return tokenizer


def make_config(variant, vocab_size):
    """config.json as BertModel writes it, the fields that matter."""
    return {
        "architectures": ["BertForMaskedLM" if variant.prefix else "BertModel"],
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": variant.activation,
        "hidden_dropout_prob": 0.1,
        "hidden_size": variant.hidden,
        "initializer_range": 0.02,
        "intermediate_size": variant.ffn,
        "layer_norm_eps": variant.eps,
        "max_position_embeddings": variant.positions,
        "model_type": "bert",
        "num_attention_heads": variant.heads,
        "num_hidden_layers": variant.layers,
        "pad_token_id": vocab_size - len(SPECIALS) if variant.specials_last else 0,
        "torch_dtype": str(variant.dtype).removeprefix("torch."),
        "type_vocab_size": variant.types,
        "vocab_size": vocab_size,
    }


def make_weights(variant, model):
    """Random values for every tensor of the model, rounded to the stored type."""
    seed = int.from_bytes(variant.name.encode(), "little")
    rng = np.random.Generator(np.random.PCG64(seed))
    weights = {}
    for name, tensor in sorted(model.state_dict().items()):
        noise = rng.standard_normal(tuple(tensor.shape))
        if name.endswith("LayerNorm.weight"):
            value = 1.0 + 0.2 * noise
        elif name.endswith(".bias"):
            value = 0.1 * noise
        elif "position_embeddings" in name or "token_type_embeddings" in name:
            value = 0.3 * noise
        elif "word_embeddings" in name:
            value = 1.5 * noise
        else:
            value = variant.std * noise
        weights[name] = torch.from_numpy(value).to(variant.dtype)
    return weights


def load(model, weights):
    """Put the stored values into the model, widened to f64."""
    model.double().eval().load_state_dict({name: tensor.double() for name, tensor in weights.items()})


def centre(variant, model, weights, texts_ids):
    """Take the mean output out of the last bias, so that different texts point in different directions.

    Random encoders put every text close to one common vector, and a golden that all texts share proves
    little. The bias of the last LayerNorm is added after everything else, so it can cancel that vector.
    """
    name = f"encoder.layer.{variant.layers - 1}.output.LayerNorm.bias"
    common = torch.stack([pooled(variant, model, ids) for ids in texts_ids]).mean(dim=0)
    weights[name] = (weights[name].double() - common).to(variant.dtype)
    load(model, weights)


def stored_tensors(variant, weights):
    """What goes into model.safetensors: the weights under their stored names, and a few nobody needs."""
    tensors = {variant.prefix + name: tensor for name, tensor in weights.items()}
    if variant.name == "f32-mean":  # older checkpoints carry the buffer, as MiniLM's does
        tensors["embeddings.position_ids"] = torch.arange(variant.positions, dtype=torch.int64).unsqueeze(0)
    if variant.name == "bf16-relu":
        tensors["pooler.dense.weight"] = torch.zeros(variant.hidden, variant.hidden, dtype=variant.dtype)
        tensors["pooler.dense.bias"] = torch.zeros(variant.hidden, dtype=variant.dtype)
    if variant.prefix:
        tensors["cls.predictions.bias"] = torch.zeros(len(vocabulary(variant)), dtype=variant.dtype)
    return tensors


def golden_texts(variant, tokenizer):
    """Texts with an argument each."""
    single = [word for word in WORDS if len(tokenizer.encode(word, add_special_tokens=False).ids) == 1]
    cycle = [single[(7 * i) % len(single)] for i in range(4 * variant.limit)]
    return [
        "",
        "hello",
        "Hello, World! It is 3.14 (approximately).",
        "The quick brown fox jumps over the lazy dog.",
        "She sells 16 - 3 - 4 = <<16-3-4=9>>9 eggs a day.\nA: $18",
        "Café naïve Ünïted – “quoted” … 中文字 Ω 🙂",
        "tabs\tand\r\nline ends, a\u0000null, a zero\u200bwidth, a soft\u00adhyphen, a\u00a0no-break space",
        "written by a miner [SEP] who knows [MASK] the special tokens [CLS] by heart",
        " ".join(["un" + "believ" * 20, "short"]),  # a word beyond 100 characters is one [UNK]
        " \n\t ",  # no token of its own: the same as the empty text
        " ".join(cycle[: variant.limit - 2]),  # exactly the limit
        " ".join(cycle[: variant.limit - 1]),  # one beyond: the same ids as the one before
        "".join(f"{i * i}; x{i}! " for i in range(variant.limit)),  # far beyond
    ]


def pooled(variant, model, ids):
    """One text alone, pooled but not normalised, in the model's own arithmetic."""
    with torch.no_grad():
        states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    return states[0] if variant.pooling == "cls" else states.mean(dim=0)


def truncate(variant, ids):
    """The ids cut to the limit, [SEP] kept last."""
    return ids if len(ids) <= variant.limit else ids[: variant.limit - 1] + ids[-1:]


def embed(variant, model, ids):
    """The normalised embedding, rounded to f32 at the very end."""
    vector = pooled(variant, model, ids)
    return (vector / vector.norm()).to(torch.float32).numpy()


def make_golden(variant, tokenizer, model):
    """The rows of golden.json; fails if different texts come out nearly alike."""
    rows = []
    for text in golden_texts(variant, tokenizer):
        whole = tokenizer.encode(text).ids
        ids = truncate(variant, whole)
        vector = embed(variant, model, ids)
        embedding = [float(str(value)) for value in vector]  # the shortest digits that give this f32
        rows.append({"text": text, "ids": ids, "truncated": len(whole) > len(ids), "embedding": embedding})
    distinct = {tuple(row["ids"]): np.array(row["embedding"]) for row in rows}
    matrix = np.array(list(distinct.values()))
    cosine = (matrix @ matrix.T)[~np.eye(len(matrix), dtype=bool)]
    model.float()
    drift = max(np.abs(embed(variant, model, list(ids)) - vector).max() for ids, vector in distinct.items())
    print(
        f"{variant.name}: {len(rows)} texts, {len(distinct)} distinct; cosine {cosine.min():.2f} to "
        f"{cosine.max():.2f}; f32 against f64 at most {drift:.1e}"
    )
    if cosine.max() > 0.8:
        raise SystemExit(f"{variant.name}: outputs are degenerate")
    return rows


def to_json(value):
    """Indented JSON, UTF-8 text as it is."""
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode("utf-8")


def golden_json(variant, rows):
    """golden.json with one row a line, so that a difference can be read."""
    head = {
        "limit": variant.limit,
        "pooling": variant.pooling,
        "versions": {
            "numpy": np.__version__,
            "tokenizers": tokenizers.__version__,
            "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__,
        },
    }
    lines = ",\n".join("    " + json.dumps(row, ensure_ascii=True) for row in rows)
    return (json.dumps(head, indent=2)[:-2] + ',\n  "rows": [\n' + lines + "\n  ]\n}\n").encode("ascii")


def make(variant, out):
    """Write one model folder."""
    tokenizer = make_tokenizer(variant)
    config = make_config(variant, tokenizer.get_vocab_size())
    not_arguments = ("architectures", "model_type", "torch_dtype")
    arguments = {key: value for key, value in config.items() if key not in not_arguments}
    bert = transformers.BertModel(
        transformers.BertConfig(**arguments, attn_implementation="eager"), add_pooling_layer=False
    )
    weights = make_weights(variant, bert)
    load(bert, weights)
    texts_ids = [truncate(variant, tokenizer.encode(text).ids) for text in golden_texts(variant, tokenizer)]
    centre(variant, bert, weights, texts_ids)
    golden = golden_json(variant, make_golden(variant, tokenizer, bert))

    if variant.tokenizer_trap:  # after the goldens: what is written must be overridden by who reads it
        specials = {"pad_id": config["pad_token_id"], "pad_token": "[PAD]"}
        tokenizer.enable_truncation(max_length=16)
        tokenizer.enable_padding(length=16, **specials)

    files = {
        "config.json": to_json(config),
        "tokenizer.json": tokenizer.to_str(pretty=False).encode("utf-8") + b"\n",
        "model.safetensors": save(stored_tensors(variant, weights), metadata={"format": "pt"}),
        "golden.json": golden,
    }
    if variant.max_seq_length:
        files["sentence_bert_config.json"] = to_json({"max_seq_length": variant.max_seq_length, "do_lower_case": False})
    if variant.has_pooling_folder:
        files["1_Pooling/config.json"] = to_json(
            {
                "word_embedding_dimension": variant.hidden,
                "pooling_mode_cls_token": variant.pooling == "cls",
                "pooling_mode_mean_tokens": variant.pooling == "mean",
                "pooling_mode_max_tokens": False,
                "pooling_mode_mean_sqrt_len_tokens": False,
            }
        )
    for name, content in files.items():
        path = out / variant.name / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def main():
    """Make every variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "models")
    args = parser.parse_args()
    for variant in VARIANTS:
        make(variant, args.out)


if __name__ == "__main__":
    main()
