//! GGUF files made in memory, whole or damaged on purpose.

use tauscore::device::Noise;

/// A file in its parts: everything before the data can be replaced by what lies.
#[derive(Clone, Debug)]
pub struct File {
    pub version: u32,
    pub alignment: u64,
    /// Keys with the type and the bytes of their values.
    pub values: Vec<(String, u32, Vec<u8>)>,
    pub tensors: Vec<Tensor>,
    /// Claims of the header; `None` says the truth.
    pub counts: [Option<u64>; 2],
}

#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    /// From the dimension that varies fastest, as in the file.
    pub dimensions: Vec<u64>,
    pub kind: u32,
    /// `None` for the next place.
    pub offset: Option<u64>,
    pub data: Vec<u8>,
}

pub const U32: u32 = 4;
pub const F32: u32 = 6;
pub const TEXT: u32 = 8;
pub const ARRAY: u32 = 9;

pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// An array's bytes, its elements' type first.
pub fn array(kind: u32, elements: &[Vec<u8>]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &(elements.len() as u64).to_le_bytes(), &elements.concat()].concat()
}

pub fn texts<T: AsRef<str>>(elements: &[T]) -> Vec<u8> {
    array(TEXT, &elements.iter().map(|element| text(element.as_ref())).collect::<Vec<_>>())
}

/// Numbers and bytes of a block, by the format's number of a type.
pub fn block(kind: u32) -> (usize, usize) {
    match kind {
        0 => (1, 4),
        1 | 30 => (1, 2),
        2 => (32, 18),
        3 => (32, 20),
        8 => (32, 34),
        other => panic!("type {other}"),
    }
}

/// Random bytes of `numbers` numbers, finite and of a sensible size.
pub fn numbers(kind: u32, numbers: usize, noise: &mut Noise) -> Vec<u8> {
    let (block, size) = block(kind);
    let mut small = || half::f16::from_f32(noise.float() * 0.1).to_le_bytes();
    let halves = match kind {
        3 => 2,
        _ => 1,
    };
    let mut bytes = Vec::new();
    for index in 0..numbers / block {
        match kind {
            0 => bytes.extend(half::f16::from_le_bytes(small()).to_f32().to_le_bytes()),
            1 => bytes.extend(small()),
            30 => bytes.extend(half::bf16::from_f32(half::f16::from_le_bytes(small()).to_f32()).to_le_bytes()),
            _ => {
                for _ in 0..halves {
                    bytes.extend(small());
                }
                // Every count comes.
                bytes.extend((0..size - 2 * halves).map(|byte| (index * 37 + byte * 101) as u8));
            }
        }
    }
    bytes
}

impl File {
    /// A model with one layer, two heads of 16 on one of keys, and a vocabulary of bytes with some merges. Matrices are of
    /// type `kind`.
    pub fn model(kind: u32, seed: u64) -> Self {
        let (hidden, inner) = (32, 64);
        let mut tokens: Vec<String> = ["<|end|>", "<|start|>"].map(str::to_owned).into();
        tokens.extend((0..=255_u8).map(|byte| byte_token(byte).to_string()));
        let merges = ["1 2", "12 3", "4 5", "h i", "Ġ hi", "t e", "e x", "te x", "tex t", "Ġ Ġ", "Ċ Ċ"];
        tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
        let kinds: Vec<_> = (0..tokens.len()).map(|id| if id < 2 { 3_i32 } else { 1 }.to_le_bytes().to_vec()).collect();
        let template = "{% for m in messages %}{{ '<|start|>' + m['role'] + '\n' + m['content'] | trim + '<|end|>\n' }}{% endfor %}\
            {% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}";
        let number = |key: &str, value: u32| (format!("llama.{key}"), U32, value.to_le_bytes().to_vec());
        let values = vec![
            ("general.architecture".to_owned(), TEXT, text("llama")),
            number("block_count", 1),
            number("context_length", 64),
            number("embedding_length", hidden),
            number("feed_forward_length", inner),
            number("attention.head_count", 2),
            number("attention.head_count_kv", 1),
            ("llama.attention.layer_norm_rms_epsilon".to_owned(), F32, 1e-5_f32.to_le_bytes().to_vec()),
            ("tokenizer.ggml.model".to_owned(), TEXT, text("gpt2")),
            ("tokenizer.ggml.pre".to_owned(), TEXT, text("smollm")),
            ("tokenizer.ggml.tokens".to_owned(), ARRAY, texts(&tokens)),
            ("tokenizer.ggml.token_type".to_owned(), ARRAY, array(5, &kinds)),
            ("tokenizer.ggml.merges".to_owned(), ARRAY, texts(&merges)),
            ("tokenizer.ggml.eos_token_id".to_owned(), U32, 0_u32.to_le_bytes().to_vec()),
            ("tokenizer.chat_template".to_owned(), TEXT, text(template)),
        ];
        let mut noise = Noise::new(seed);
        let (hidden, inner, vocabulary) = (u64::from(hidden), u64::from(inner), tokens.len() as u64);
        let mut tensor = |name: &str, kind, dimensions: &[u64]| {
            let count = dimensions.iter().product::<u64>() as usize;
            let data = numbers(kind, count, &mut noise);
            Tensor { name: name.to_owned(), dimensions: dimensions.to_vec(), kind, offset: None, data }
        };
        let tensors = vec![
            tensor("token_embd.weight", kind, &[hidden, vocabulary]),
            tensor("blk.0.attn_norm.weight", 0, &[hidden]),
            tensor("blk.0.attn_q.weight", kind, &[hidden, 32]),
            tensor("blk.0.attn_k.weight", kind, &[hidden, 16]),
            tensor("blk.0.attn_v.weight", kind, &[hidden, 16]),
            tensor("blk.0.attn_output.weight", kind, &[32, hidden]),
            tensor("blk.0.ffn_norm.weight", 0, &[hidden]),
            tensor("blk.0.ffn_gate.weight", kind, &[hidden, inner]),
            tensor("blk.0.ffn_up.weight", kind, &[hidden, inner]),
            tensor("blk.0.ffn_down.weight", kind, &[inner, hidden]),
            tensor("output_norm.weight", 0, &[hidden]),
        ];
        Self { version: 3, alignment: 32, values, tensors, counts: [None; 2] }
    }

    /// Sets the value of a key, which may be new.
    pub fn set(&mut self, key: &str, kind: u32, bytes: impl Into<Vec<u8>>) {
        self.values.retain(|(other, _, _)| other != key);
        self.values.push((key.to_owned(), kind, bytes.into()));
    }

    pub fn remove(&mut self, key: &str) {
        self.values.retain(|(other, _, _)| other != key);
    }

    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    /// The bytes before the data, and the data.
    pub fn parts(&self) -> (Vec<u8>, Vec<u8>) {
        let mut header = b"GGUF".to_vec();
        header.extend(self.version.to_le_bytes());
        header.extend(self.counts[0].unwrap_or(self.tensors.len() as u64).to_le_bytes());
        header.extend(self.counts[1].unwrap_or(self.values.len() as u64).to_le_bytes());
        for (key, kind, bytes) in &self.values {
            header.extend(text(key));
            header.extend(kind.to_le_bytes());
            header.extend(bytes);
        }
        let mut data = Vec::new();
        for tensor in &self.tensors {
            data.resize(data.len().next_multiple_of(self.alignment as usize), 0);
            header.extend(text(&tensor.name));
            header.extend((tensor.dimensions.len() as u32).to_le_bytes());
            header.extend(tensor.dimensions.iter().flat_map(|length| length.to_le_bytes()));
            header.extend(tensor.kind.to_le_bytes());
            header.extend(tensor.offset.unwrap_or(data.len() as u64).to_le_bytes());
            data.extend(&tensor.data);
        }
        header.resize(header.len().next_multiple_of(self.alignment as usize), 0);
        (header, data)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let (header, data) = self.parts();
        [header, data].concat()
    }
}

/// The letter that byte-level vocabularies write for a byte: itself where it can be seen, else one from 256 on.
pub fn byte_token(byte: u8) -> char {
    let seen = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if seen(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|byte| !seen(*byte)).count() as u32;
    char::from_u32(256 + before).unwrap()
}
