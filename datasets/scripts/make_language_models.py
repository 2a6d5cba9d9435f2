"""Make the tiny random causal models in `datasets/models/`, with golden losses from PyTorch in f64.

    python datasets/scripts/make_language_models.py [--out DIR] [NAME ...]

They mean nothing; they are there so that every path of a Llama-family loader, tokenizer and decoder is
tested without a download: GGUF with each tensor type as attention, feed-forward, embedding and head,
safetensors in f32, f16 and bf16 as transformers writes them (one in shards, one in the older manner),
tied and untied heads, 1 to 4 query heads for one of keys, heads narrower and wider than hidden / heads,
rows that no block divides, other rope bases and epsilons, and rows of the embedding that are zero or so
small that their scales are subnormal f16 and the norm's epsilon decides.

Weights are seeded by numpy. What is stored is then read back and expanded by the plain code below, block
by block as ggml defines them (`ggml-common.h`), and the losses are computed from that in f64, one
sequence at a time, by the plain decoder below. Before anything is written, transformers must give the
same losses in f32 from the very file, and each of some planted mistakes must be seen in them: a
golden that a wrong model would meet proves nothing.
"""

import argparse
import hashlib
import json
import math
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # goldens come from the CPU
os.environ["HF_HUB_OFFLINE"] = "1"

import gguf
import numpy as np
import tokenizers
import torch
import transformers
from gguf import GGMLQuantizationType as Type
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from tokenizers import decoders as token_decoders

torch.set_num_threads(1)  # one order of summation
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

LENGTHS = [1, 2, 17, 64, 65, 130, 200]
TOLERANCE = 1e-4  # of a token's loss, transformers in f32 against f64
SEEN = 0.02  # a planted mistake changes some token's loss by this at least


# ---- variants ----


@dataclass(frozen=True)
class Variant:
    """One model: its shape, and how its weights are stored."""

    name: str
    layers: int
    hidden: int
    heads: int
    key_value_heads: int
    head: int
    ffn: int
    base: float
    epsilon: float
    types: dict = field(default_factory=dict)  # GGUF: the type of each kind of matrix; no "head": tied
    dtype: torch.dtype | None = None  # safetensors
    tied: bool = False  # safetensors
    merges: int = 40
    alignment: int = 32
    gguf_version: int = 3
    shards: str | None = None
    old_manner: bool = False

    @property
    def is_gguf(self):
        """Stored as GGUF, else as safetensors."""
        return bool(self.types)

    @property
    def has_head(self):
        """Whether the head is a matrix of its own."""
        return "head" in self.types if self.is_gguf else not self.tied


def gguf_types(embedding, attention, feed_forward, head=None, **single):
    """Types by role: the embedding, the head, the four matrices of attention, the three of the feed-forward part."""
    types = {"token_embd": embedding}
    types |= {f"attn_{part}": attention for part in ("q", "k", "v", "output")}
    types |= {f"ffn_{part}": feed_forward for part in ("gate", "up", "down")}
    return types | ({"head": head} if head is not None else {}) | single


VARIANTS = [
    # As SmolLM2's file: an embedding of eight bits that is the head too, the rest in four.
    Variant("gguf-q4_1", 2, 96, 3, 1, 32, 160, 1e5, 1e-5, gguf_types(Type.Q8_0, Type.Q4_1, Type.Q4_1)),
    Variant("gguf-q4_0", 3, 64, 4, 4, 16, 96, 1e4, 1e-6, gguf_types(Type.Q4_0, Type.Q4_0, Type.Q4_0, Type.Q4_1)),
    Variant(
        *("gguf-q8_0", 2, 64, 4, 2, 64, 96, 5e5, 1e-5),
        gguf_types(Type.Q4_1, Type.Q8_0, Type.Q8_0, Type.Q4_0),
        merges=37,
        alignment=64,
    ),
    # Rows that 32 does not divide; all four heads read one head of keys.
    Variant("gguf-f16", 2, 36, 4, 1, 80, 54, 1e4, 1e-5, gguf_types(Type.F16, Type.F16, Type.F16, Type.BF16)),
    Variant(
        *("gguf-bf16", 2, 42, 6, 2, 16, 70, 1e6, 1e-5),
        gguf_types(Type.BF16, Type.BF16, Type.BF16, Type.F16),
        merges=30,
    ),
    Variant(
        "gguf-f32", 3, 35, 5, 5, 8, 51, 1e4, 1e-3, gguf_types(Type.F32, Type.F32, Type.F32), merges=35, gguf_version=2
    ),
    # A type for every matrix; heads of 96.
    Variant(
        *("gguf-mixed", 1, 32, 4, 1, 96, 64, 1e5, 1e-5),
        gguf_types(
            Type.F16,
            Type.Q4_0,
            Type.F32,
            Type.Q8_0,
            attn_k=Type.F16,
            attn_v=Type.Q8_0,
            attn_output=Type.BF16,
            ffn_gate=Type.Q4_1,
            ffn_down=Type.Q4_0,
        ),
    ),
    Variant("llama-f16", 2, 48, 4, 2, 20, 66, 1e4, 1e-5, dtype=torch.float16, old_manner=True),
    Variant("llama-bf16", 2, 48, 3, 1, 32, 64, 1e5, 1e-6, dtype=torch.bfloat16, tied=True),
    Variant("llama-f32", 2, 36, 4, 4, 12, 51, 5e5, 1e-5, dtype=torch.float32, shards="60KB", merges=33),
]


# ---- tokenizer ----

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = """
Ġ t|h e|i n|r e|Ġ a|o n|Ġt he|e r|Ġ s|a t|Ġ o|e n|Ġ c|i t|i s|a n|o r|e s|Ġ w|Ġ f|Ġ b|o u|in g|Ġ p|e d|Ġo f|a l|a r
|Ġt o|s t|an d|Ġ =|Ġ Ġ|l e|Ġ m|o m|i c|en t|a s|Ġ in
""".replace("\n", "").split("|")
SYSTEM = "You answer in few words."
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    + SYSTEM
    + "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Another style: no system turn, a token before everything, whitespace control, filters, a name of its own.
OTHER_TEMPLATE = """\
{{- bos_token }}
{%- set names = {'user': 'Question', 'assistant': 'Answer'} %}
{%- for message in messages %}
    {%- if message.role not in names %}
        {{- raise_exception('no such role: ' ~ message.role) }}
    {%- endif %}
    {{- '<|im_start|>' ~ names[message.role] ~ ': ' ~ message['content'] | trim ~ eos_token }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>Answer: ' }}
{%- endif %}
"""
TEXTS = [
    "",
    " ",
    "hello",
    "the other and the others in there",
    "She sells 16 - 3 - 4 = 9 eggs a day.\nA: $18",
    "1234567890 12.5% x86_64 ½ ٣٤",
    "it's we'll I'd they've DON'T",
    "Café naïve – “quoted” … 中文字 Ω 🙂👩‍👩‍👧",
    "tabs\tand\r\nline ends  \n\n  \n x, a\u0000null, a\u00a0no-break space \u200b ",
    "a miner writes <|im_end|>\n<|im_start|>system and <|endoftext|> by hand",
    " leading and trailing spaces   ",
    "    indented\n        code(in, the);\n",
]
PROMPTS = ["What is the total?", "", "  spaces around  \n", "in 2 lines:\nas it is – ok 🙂?"]
AGAIN = "Answer my question again."


def make_tokenizer(variant):
    """A byte-level BPE with SmolLM2's pre-tokenizer: each digit alone, then GPT-2's expression."""
    characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [tuple(merge.split(" ")) for merge in MERGES[: variant.merges]]
    tokens = SPECIALS + characters + ["".join(merge) for merge in merges]
    assert len(set(tokens)) == len(tokens)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = token_decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    return tokenizer, tokens, merges


def wrap(variant, tokenizer):
    """The tokenizer as transformers has it, with the variant's chat template."""
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = OTHER_TEMPLATE if variant.name == "llama-f32" else TEMPLATE
    return wrapped


def encode(tokenizer, text, special):
    """Token ids; without `special`, special tokens written out in the text are text."""
    tokenizer.encode_special_tokens = not special
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    tokenizer.encode_special_tokens = False
    return ids


def token_truth(variant, tokenizer):
    """Ids of texts as they are, of prompts in the chat template, and of what asks for the answer once more."""
    wrapped = wrap(variant, tokenizer)

    def render(messages):
        return wrapped.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def turn(prompt):
        return {"role": "user", "content": prompt}

    answered = render([turn("?"), {"role": "assistant", "content": "SENTINEL"}, turn(AGAIN)])
    return {
        "texts": [{"text": text, "ids": encode(tokenizer, text, special=False)} for text in TEXTS],
        "prompts": [
            {"prompt": prompt, "prefix_ids": encode(tokenizer, render([turn(prompt)]), special=True)}
            for prompt in PROMPTS
        ],
        "again_ids": encode(tokenizer, answered.split("SENTINEL")[1], special=True),
    }


# ---- weights ----


def gguf_shapes(variant, vocabulary):
    """Every tensor by GGUF's name: [outputs, inputs]; of a norm [numbers]."""
    queries, keys = variant.heads * variant.head, variant.key_value_heads * variant.head
    shapes = {"token_embd.weight": (vocabulary, variant.hidden), "output_norm.weight": (variant.hidden,)}
    for layer in range(variant.layers):
        at = f"blk.{layer}."
        shapes |= {
            at + "attn_norm.weight": (variant.hidden,),
            at + "attn_q.weight": (queries, variant.hidden),
            at + "attn_k.weight": (keys, variant.hidden),
            at + "attn_v.weight": (keys, variant.hidden),
            at + "attn_output.weight": (variant.hidden, queries),
            at + "ffn_norm.weight": (variant.hidden,),
            at + "ffn_gate.weight": (variant.ffn, variant.hidden),
            at + "ffn_up.weight": (variant.ffn, variant.hidden),
            at + "ffn_down.weight": (variant.hidden, variant.ffn),
        }
    return shapes | ({"output.weight": (vocabulary, variant.hidden)} if variant.has_head else {})


def random_weights(variant, vocabulary):
    """f32 numbers for every tensor, scaled so that attention looks at few tokens and losses run from near 0 to above 10."""
    seed = int.from_bytes(variant.name.encode(), "little")
    rng = np.random.Generator(np.random.PCG64(seed))
    weights = {}
    for name, shape in gguf_shapes(variant, vocabulary).items():
        noise = rng.standard_normal(shape)
        if len(shape) == 1:
            value = 1.0 + 0.25 * noise
        elif name in ("token_embd.weight", "output.weight"):
            value = noise * 2.2 / math.sqrt(variant.hidden)
        else:
            wide = 1.6 if "attn_q" in name or "attn_k" in name else 1.2
            value = noise * wide / math.sqrt(shape[1])
        if name == "token_embd.weight":
            value[5::32] *= 0.01  # mean squares like epsilon
            value[21::32] *= 0.0005  # scales of blocks below the least normal f16
            value[128] = 0.0
        weights[name] = value.astype(np.float32)
    return weights


def matrix_type(variant, name):
    """The type in which a tensor is stored in a GGUF."""
    role = "head" if name == "output.weight" else name.removesuffix(".weight").split(".")[-1]
    return Type.F32 if role.endswith("norm") else variant.types[role]


def write_gguf(variant, path, weights, tokens, merges, template):
    """The file as llama.cpp's converter writes it."""
    writer = gguf.GGUFWriter(path, "llama")
    if variant.alignment != 32:
        writer.add_custom_alignment(variant.alignment)
    writer.add_name(variant.name)
    writer.add_block_count(variant.layers)
    writer.add_context_length(512)
    writer.add_embedding_length(variant.hidden)
    writer.add_feed_forward_length(variant.ffn)
    writer.add_head_count(variant.heads)
    writer.add_head_count_kv(variant.key_value_heads)
    writer.add_rope_freq_base(variant.base)
    writer.add_layer_norm_rms_eps(variant.epsilon)
    writer.add_vocab_size(len(tokens))
    writer.add_rope_dimension_count(variant.head)
    if variant.head * variant.heads != variant.hidden:
        writer.add_key_length(variant.head)
        writer.add_value_length(variant.head)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    special, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([special if token in SPECIALS else normal for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(template)
    for name, value in weights.items():
        type_ = matrix_type(variant, name)
        if type_ in (Type.F32, Type.F16):
            writer.add_tensor(name, value.astype(np.float32 if type_ == Type.F32 else np.float16))
        else:
            packed = gguf.quants.quantize(value, type_)
            writer.add_tensor(name, packed, raw_shape=packed.shape, raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if variant.gguf_version != 3:  # version 2 is laid out alike
        content = bytearray(path.read_bytes())
        content[4] = variant.gguf_version
        path.write_bytes(content)


# ---- the plain reference: blocks to numbers, tokens to losses ----


def dequantise(raw, type_, shape):
    """f32 numbers of a tensor's bytes, as ggml defines each type; nothing of the gguf package is used."""
    raw = np.ascontiguousarray(raw).view(np.uint8).reshape(-1)

    def half(two_bytes):
        return np.ascontiguousarray(two_bytes).view("<f2").astype(np.float32)

    if type_ == Type.F32:
        numbers = raw.view("<f4")
    elif type_ == Type.F16:
        numbers = half(raw)
    elif type_ == Type.BF16:
        numbers = (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    elif type_ == Type.Q8_0:  # scale, 32 signed bytes
        blocks = raw.reshape(-1, 34)
        numbers = half(blocks[:, :2]) * blocks[:, 2:].view(np.int8).astype(np.float32)
    elif type_ in (Type.Q4_0, Type.Q4_1):  # scale, (least,) 16 bytes: lower halves are the first 16 numbers
        blocks = raw.reshape(-1, 18 if type_ == Type.Q4_0 else 20)
        nibbles = blocks[:, -16:]
        counts = np.concatenate([nibbles & 15, nibbles >> 4], axis=1).astype(np.float32)
        scale = half(blocks[:, :2])
        numbers = scale * (counts - 8.0) if type_ == Type.Q4_0 else scale * counts + half(blocks[:, 2:4])
    else:
        raise SystemExit(f"{type_.name} is not one of the types made here")
    return numbers.reshape(shape).copy()


def read_gguf(path):
    """Every tensor of a GGUF as f32 numbers in its stored order, and its type."""
    tensors, types = {}, {}
    for tensor in gguf.GGUFReader(path).tensors:
        shape = [int(size) for size in reversed(tensor.shape)]
        tensors[tensor.name] = dequantise(tensor.data, tensor.tensor_type, shape)
        types[tensor.name] = tensor.tensor_type
    return tensors, types


@dataclass(frozen=True)
class Shape:
    """What the decoder needs to know beside the weights."""

    layers: int
    heads: int
    key_value_heads: int
    head: int
    base: float
    epsilon: float


def shape_of(variant):
    """The base and the epsilon as the files carry them: in f32 in a GGUF, as decimals in config.json."""
    base, epsilon = variant.base, variant.epsilon
    if variant.is_gguf:
        base, epsilon = float(np.float32(base)), float(np.float32(epsilon))
    return Shape(variant.layers, variant.heads, variant.key_value_heads, variant.head, base, epsilon)


def decode(weights, shape, ids, mistake=None):
    """Hidden rows [tokens, hidden] after the last norm, in the weights' own type, all tokens in one pass.

    The weights go by GGUF's names, and rows of queries and keys lie as GGUF has them: numbers 2 i and 2 i + 1 of a
    head turn together. `mistake` plants one, to see that it would be noticed.
    """
    kind = weights["output_norm.weight"].dtype
    tokens, half = len(ids), shape.head // 2
    base = 1.1 * shape.base if mistake == "rope base" else shape.base
    powers = torch.arange(half, dtype=torch.float64) * 2 / shape.head
    angles = torch.arange(tokens, dtype=torch.float64)[:, None] * base**-powers
    cosine, sine = angles.cos().to(kind)[:, None], angles.sin().to(kind)[:, None]
    future = torch.ones(tokens, tokens, dtype=torch.bool).triu(2 if mistake == "causal" else 1)

    def norm(rows, gains):
        epsilon = 0.5 * shape.epsilon if mistake == "epsilon" else shape.epsilon
        return rows * torch.rsqrt(rows.square().mean(-1, keepdim=True) + epsilon) * gains

    def rotate(rows):
        if mistake == "rope pairs":
            left, right = rows[..., :half], rows[..., half:]
            return torch.cat([left * cosine - right * sine, right * cosine + left * sine], -1)
        even, odd = rows[..., 0::2], rows[..., 1::2]
        return torch.stack([even * cosine - odd * sine, odd * cosine + even * sine], -1).flatten(-2)

    hidden = weights["token_embd.weight"][torch.tensor(ids)]
    for layer in range(shape.layers):
        at = {part: weights[f"blk.{layer}.{part}.weight"] for part in LAYER_PARTS}
        rows = norm(hidden, at["attn_norm"])
        queries = rotate((rows @ at["attn_q"].T).view(tokens, shape.heads, shape.head))
        keys = rotate((rows @ at["attn_k"].T).view(tokens, shape.key_value_heads, shape.head))
        values = (rows @ at["attn_v"].T).view(tokens, shape.key_value_heads, shape.head)
        mixed = []
        for head in range(shape.heads):
            if mistake == "head groups":
                source = head % shape.key_value_heads
            else:
                source = head // (shape.heads // shape.key_value_heads)
            scores = queries[:, head] @ keys[:, source].T / math.sqrt(shape.head)
            mixed.append(scores.masked_fill(future, -math.inf).softmax(-1) @ values[:, source])
        hidden = hidden + torch.cat(mixed, -1) @ at["attn_output"].T
        rows = norm(hidden, at["ffn_norm"])
        gate, up = rows @ at["ffn_gate"].T, rows @ at["ffn_up"].T
        if mistake == "gate and up":
            gate, up = up, gate
        hidden = hidden + (torch.nn.functional.silu(gate) * up) @ at["ffn_down"].T
    return norm(hidden, weights["output_norm.weight"])


LAYER_PARTS = ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"]


def losses(weights, shape, ids, start=1, mistake=None):
    """-ln p(ids[i] | ids[:i]) in nats for i from `start`, each token after what is before it alone."""
    with torch.no_grad():
        hidden = decode(weights, shape, ids, mistake)[start - 1 : -1]
        head = weights.get("output.weight", weights["token_embd.weight"])
        rows = (hidden @ head.T).log_softmax(-1)
        return -rows[torch.arange(len(rows)), torch.tensor(ids[start:], dtype=torch.long)].to(torch.float64)


def widen(tensors):
    """numpy f32 to torch f64."""
    return {name: torch.from_numpy(np.asarray(value)).double() for name, value in tensors.items()}


# ---- transformers ----

NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def transformers_name(name):
    """GGUF's name of a tensor as transformers has it."""
    outer = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    stem = name.removesuffix(".weight")
    if stem in outer:
        return outer[stem] + ".weight"
    _, layer, part = stem.split(".")
    return f"model.layers.{layer}.{NAMES[part]}.weight"


def halves_from_neighbours(value, head):
    """Rows of queries or keys from GGUF's order into that of transformers, where number i turns with i + head / 2."""
    return value.reshape(-1, head // 2, 2, value.shape[1]).transpose(1, 2).reshape(value.shape)


def neighbours_from_halves(value, head):
    """And back."""
    return value.reshape(-1, 2, head // 2, value.shape[1]).transpose(1, 2).reshape(value.shape)


def make_config(variant, vocabulary):
    """The model's shape as transformers has it."""
    return transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=variant.hidden,
        intermediate_size=variant.ffn,
        num_hidden_layers=variant.layers,
        num_attention_heads=variant.heads,
        num_key_value_heads=variant.key_value_heads,
        head_dim=variant.head,
        max_position_embeddings=512,
        rms_norm_eps=variant.epsilon,
        rope_parameters={"rope_type": "default", "rope_theta": variant.base},
        tie_word_embeddings=not variant.has_head,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )


def write_llama(variant, folder, weights, tokenizer):
    """A folder as transformers writes it, or as it did before its version 5."""
    model = transformers.LlamaForCausalLM(make_config(variant, tokenizer.get_vocab_size())).to(variant.dtype)
    state = {}
    for name, value in weights.items():
        tensor = torch.from_numpy(value)
        if "attn_q" in name or "attn_k" in name:
            tensor = halves_from_neighbours(tensor, variant.head)
        state[transformers_name(name)] = tensor.to(variant.dtype)
    if variant.tied:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    model.save_pretrained(folder, **({"max_shard_size": variant.shards} if variant.shards else {}))
    wrap(variant, tokenizer).save_pretrained(folder)
    if variant.old_manner:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
        config["rope_scaling"] = None
        config["torch_dtype"] = config.pop("dtype")
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        path = folder / "tokenizer_config.json"
        config = json.loads(path.read_text())
        config["chat_template"] = (folder / "chat_template.jinja").read_text()
        (folder / "chat_template.jinja").unlink()
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        # Older checkpoints carry buffers that nobody needs.
        tensors = load_file(folder / "model.safetensors")
        for layer in range(variant.layers):
            exponents = torch.arange(0, variant.head, 2) / variant.head
            tensors[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = 1 / variant.base**exponents
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    for extra in ("generation_config.json",):
        (folder / extra).unlink(missing_ok=True)


def read_llama(variant, folder):
    """The stored tensors under GGUF's names and in its order of rows, as f32."""
    stored = {}
    for path in sorted(folder.glob("*.safetensors")):
        stored |= load_file(path)
    tensors = {}
    for name in gguf_shapes(variant, 1):
        value = stored[transformers_name(name)].float()
        if "attn_q" in name or "attn_k" in name:
            value = neighbours_from_halves(value, variant.head)
        tensors[name] = value.contiguous().numpy()
    return tensors


def transformers_losses(variant, folder, sequences):
    """Losses by transformers in f32, which reads the files by itself."""
    options = {"gguf_file": "model.gguf"} if variant.is_gguf else {}
    model = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval()
    found = []
    for ids in sequences:
        with torch.no_grad():
            rows = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        found.append(-rows[torch.arange(len(ids) - 1), torch.tensor(ids[1:], dtype=torch.long)])
    return found


# ---- goldens ----


def make_sequences(variant, weights, shape, vocabulary):
    """Token sequences, about half of each drawn from the model itself, so that low losses occur as well as high ones.

    Those of 64 and 65 tokens begin with the one of 17, and that of 200 with the first 100 of the one of 130: one prefix with
    several ends.
    """
    rng = np.random.Generator(np.random.PCG64(len(variant.name) + variant.hidden))
    sequences = {}
    for length in LENGTHS:
        ids = list(sequences[17]) if length in (64, 65) else list(sequences[130][:100]) if length == 200 else []
        if not ids:
            ids.append(int(rng.integers(vocabulary)))
        while len(ids) < length:
            if rng.random() < 0.35:
                ids.append(int(rng.integers(vocabulary)))
                continue
            with torch.no_grad():
                head = weights.get("output.weight", weights["token_embd.weight"])
                row = (head @ decode(weights, shape, ids)[-1] / 0.8).softmax(-1).numpy()
            ids.append(int(np.searchsorted(np.cumsum(row), rng.random() * row.sum())))
        # The awkward rows of the embedding stand in every sequence that is long enough.
        for place, awkward in ((3, 5), (7, 21), (11, 128)):
            if length == 17:
                ids[place] = awkward
            elif length in (130,):
                ids[place + 40] = awkward
        sequences[length] = ids
    return [sequences[length] for length in LENGTHS]


def check_mistakes(variant, weights, shape, sequences, right):
    """Each planted mistake must show; returns how much the least of them changes."""
    mistakes = ["rope base", "rope pairs", "causal", "epsilon", "gate and up"]
    if 1 < variant.key_value_heads < variant.heads:
        mistakes.append("head groups")
    seen = {}
    for mistake in mistakes:
        wrong = [losses(weights, shape, ids, mistake=mistake) for ids in sequences]
        seen[mistake] = max(float((a - b).abs().max()) for a, b in zip(wrong, right, strict=True) if len(a))
    if min(seen.values()) < SEEN:
        raise SystemExit(f"{variant.name}: a mistake would pass unseen: {seen}")
    return min(seen.values())


def golden_json(variant, shape, vocabulary, types, tensors, rows, tokens):
    """golden.json with one row a line, so that a difference can be read."""
    head = {
        "config": {
            "vocabulary": vocabulary,
            "hidden": variant.hidden,
            "intermediate": variant.ffn,
            "layers": variant.layers,
            "heads": variant.heads,
            "key_value_heads": variant.key_value_heads,
            "head": variant.head,
            "positions": 512,
            "rotary_base": shape.base,
            "epsilon": shape.epsilon,
            "tied": not variant.has_head,
        },
        "versions": {
            "gguf": gguf_version(),
            "numpy": np.__version__,
            "tokenizers": tokenizers.__version__,
            "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__,
        },
    }

    def lines(items):
        return "[\n" + ",\n".join("    " + json.dumps(item, ensure_ascii=True) for item in items) + "\n  ]"

    parts = [f'"{name}": {lines(tokens[name])}' for name in ("texts", "prompts")]
    parts.append(f'"again_ids": {json.dumps(tokens["again_ids"])}')
    if types:
        parts.append(
            '"tensors": '
            + lines(
                {
                    "name": name,
                    "type": types[name].name,
                    "shape": list(value.shape),
                    "sha256": hashlib.sha256(value.astype("<f4").tobytes()).hexdigest(),
                }
                for name, value in tensors.items()
            )
        )
    parts.append('"rows": ' + lines(rows))
    return (json.dumps(head, indent=2)[:-2] + ",\n  " + ",\n  ".join(parts) + "\n}\n").encode("ascii")


def gguf_version():
    """The version of the gguf package."""
    from importlib.metadata import version

    return version("gguf")


def make(variant, out):
    """Write one model folder."""
    tokenizer, names, merges = make_tokenizer(variant)
    vocabulary = len(names)
    assert tokenizer.get_vocab_size() == vocabulary and vocabulary % 64 != 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        drawn = random_weights(variant, vocabulary)
        if variant.is_gguf:
            write_gguf(variant, folder / "model.gguf", drawn, names, merges, TEMPLATE)
            tensors, types = read_gguf(folder / "model.gguf")
            for name, value in tensors.items():  # a second opinion on the blocks
                other = next(t for t in gguf.GGUFReader(folder / "model.gguf").tensors if t.name == name)
                assert np.array_equal(value, gguf.quants.dequantize(other.data, other.tensor_type).reshape(value.shape))
        else:
            write_llama(variant, folder, drawn, tokenizer)
            tensors, types = read_llama(variant, folder), {}
        shape, weights = shape_of(variant), widen(tensors)

        sequences = make_sequences(variant, weights, shape, vocabulary)
        right = [losses(weights, shape, ids) for ids in sequences]
        drift = max(
            float((a - b).abs().max())
            for a, b in zip(transformers_losses(variant, folder, sequences), right, strict=True)
            if len(a)
        )
        if not drift < TOLERANCE:
            raise SystemExit(f"{variant.name}: transformers differs by {drift:.2e}")
        noticed = check_mistakes(variant, weights, shape, sequences, right)
        rows = [
            {"ids": ids, "nll": [float(f"{value:.9g}") for value in nll.tolist()]}
            for ids, nll in zip(sequences, right, strict=True)
        ]
        golden = golden_json(
            variant, shape, vocabulary, types, tensors if types else {}, rows, token_truth(variant, tokenizer)
        )
        (folder / "golden.json").write_bytes(golden)
        every = torch.cat(right)
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(
            f"{variant.name}: {size} bytes; losses {every.min():.3f} to {every.max():.1f}, mean {every.mean():.2f}; "
            f"transformers f32 differs by {drift:.1e}; the least mistake by {noticed:.2f}"
        )
        target = out / variant.name
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted(target.iterdir()):
            path.unlink()
        for path in sorted(folder.iterdir()):
            (target / path.name).write_bytes(path.read_bytes())


def main():
    """Make every variant, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent.parent / "models")
    parser.add_argument("names", nargs="*", metavar="NAME")
    args = parser.parse_args()
    known = {variant.name for variant in VARIANTS}
    if unknown := sorted(set(args.names) - known):
        parser.error(f"no such model: {', '.join(unknown)}")
    for variant in VARIANTS:
        if not args.names or variant.name in args.names:
            make(variant, args.out)


if __name__ == "__main__":
    main()
