//! The tokenizer of a causal language model, and the words that its chat template puts around a prompt.
//!
//! Texts of miners and references are plain text always: no special token is read out of them, none is added, nothing is
//! cut. A prompt is as plain, within the turn that the template gives it; so a text that spells the end of its turn stays
//! in it. For all other prompts the ids are those that transformers gives for the whole.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, context};
use rayon::prelude::*;
use serde::Deserialize;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use super::{Tokenizer, guarded, unfit};
use crate::nn::config::read_json;
use crate::nn::gguf::Gguf;
use crate::nn::llama::Checkpoint;
use crate::{Error, Result};

/// What the user says to be answered a second time.
const AGAIN: &str = "Answer my question again.";
/// Stands for a text while it is found out what a template puts around it: characters of no language.
const SENTINEL: &str = "\u{f8fe}\u{f8ff}";
/// What rendering a template may take, in minijinja's units: it bounds time, and memory to some 256 MB.
const FUEL: u64 = 4_000_000;

/// Kinds of GGUF tokens that are special: unknown and control.
const SPECIAL: [i64; 2] = [2, 3];
/// The kind of GGUF tokens that are found in texts before anything else, without being special.
const USER_DEFINED: i64 = 4;

const TOKENS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TEMPLATE: &str = "tokenizer.chat_template";

/// A causal language model's tokenizer with its chat template.
pub struct ChatTokenizer {
    inner: tokenizers::Tokenizer,
    file: String,
    template: Template,
    prompt: Around,
    again: Vec<u32>,
    vocabulary: u32,
}

impl std::fmt::Debug for ChatTokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ChatTokenizer")
            .field("file", &self.file)
            .field("vocabulary", &self.vocabulary)
            .field("again", &self.again)
            .finish_non_exhaustive()
    }
}

/// What a template puts around a prompt.
struct Around {
    before: String,
    after: String,
    /// The ids of `before` up to its last special token, and the rest of it.
    first: Vec<u32>,
    head: String,
    /// `after` up to its first special token, and the ids of the rest.
    tail: String,
    last: Vec<u32>,
}

impl ChatTokenizer {
    /// Reads a `.gguf` file, a folder with exactly one, or a folder with `tokenizer.json`, `tokenizer_config.json` and, if
    /// the template is not in the latter, `chat_template.jinja`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::File`] for a vocabulary that is damaged or of another kind, and for a template that is
    /// missing or cannot be rendered.
    pub fn open(path: &Path) -> Result<Self> {
        let (inner, template) = match Checkpoint::find(path)? {
            Checkpoint::Gguf(file) => {
                let gguf = Gguf::open(&file)?;
                (from_gguf(&gguf)?, Template::from_gguf(&gguf)?)
            }
            Checkpoint::Safetensors(folder) => {
                (Tokenizer::open(&folder, u32::MAX)?.inner, Template::from_folder(&folder)?)
            }
        };
        Self::new(inner, template)
    }

    fn new(mut inner: tokenizers::Tokenizer, template: Template) -> Result<Self> {
        let file = template.file.clone();
        let added = inner.get_added_tokens_decoder();
        let special: HashSet<u32> = added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id).collect();
        let vocabulary = inner.get_vocab(true).into_values().max().map_or(0, |largest| largest.saturating_add(1));

        // Here the template's own special tokens are read, and after it none.
        inner.set_encode_special_tokens(false);
        let rendered = template.render(&[("user", SENTINEL)])?;
        let (before, after) = template.around(&rendered)?;
        let encoding = guarded(&file, || inner.encode(before, false))?;
        let place = encoding.get_ids().iter().rposition(|id| special.contains(id));
        let at = place.and_then(|place| encoding.get_offsets().get(place)).map_or(0, |(_, end)| *end);
        let (first, head) = before.split_at_checked(at).unwrap_or((before, ""));
        let encoding = guarded(&file, || inner.encode(after, false))?;
        let place = encoding.get_ids().iter().position(|id| special.contains(id));
        let at = place.and_then(|place| encoding.get_offsets().get(place)).map_or(after.len(), |(start, _)| *start);
        let (tail, last) = after.split_at_checked(at).unwrap_or((after, ""));
        let with_special = |text: &str| -> Result<Vec<u32>> {
            Ok(guarded(&file, || inner.encode_fast(text, false))?.get_ids().to_vec())
        };
        let prompt = Around {
            before: before.into(),
            after: after.into(),
            first: with_special(first)?,
            head: head.into(),
            tail: tail.into(),
            last: with_special(last)?,
        };
        let rendered = template.render(&[("user", "Question."), ("assistant", SENTINEL), ("user", AGAIN)])?;
        let again = with_special(template.around(&rendered)?.1)?;

        inner.set_encode_special_tokens(true);
        let tokenizer = Self { inner, file, template, prompt, again, vocabulary };
        for token in added.values().filter(|token| token.special) {
            if tokenizer.encode(&token.content)?.iter().any(|id| special.contains(id)) {
                let problem = format!("the special token {:?} is read out of plain text", token.content);
                return Err(unfit(&tokenizer.file, "tokenizer", problem));
            }
        }
        Ok(tokenizer)
    }

    /// The ids of everything before an answer: the chat template's, around `prompt` as the only turn of the user.
    ///
    /// # Errors
    /// [`Error::File`] where the template refuses the prompt, or changes with it what stands around it.
    pub fn prefix(&self, prompt: &str) -> Result<Vec<u32>> {
        let around = &self.prompt;
        let rendered = self.template.render(&[("user", prompt)])?;
        // A template may change a prompt (many cut white space off); it may not move the bounds of its turn.
        let text = rendered.strip_prefix(&around.before).and_then(|rest| rest.strip_suffix(&around.after));
        let text = text.ok_or_else(|| self.template.refuse("what it puts around a prompt changes with the prompt"))?;
        let middle = self.encode(&[&around.head, text, &around.tail].concat())?;
        Ok([around.first.as_slice(), &middle, &around.last].concat())
    }

    /// The ids from the end of an answer to the beginning of the next one, where the user says "Answer my question again."
    /// between them.
    pub fn again(&self) -> &[u32] {
        &self.again
    }

    /// Encodes one plain text. Bytes that the vocabulary has no token for, not even an unknown one, are left out, as
    /// transformers does (SmolLM2 lacks six control characters, and some planes that Unicode has given to no script).
    ///
    /// # Errors
    /// [`Error::File`] where the tokenizer fails on the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(guarded(&self.file, || self.inner.encode_fast(text, false))?.get_ids().to_vec())
    }

    /// Encodes many plain texts in parallel, in their order.
    ///
    /// # Errors
    /// As [`ChatTokenizer::encode`], for the first text concerned.
    pub fn encode_all<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<Vec<Vec<u32>>> {
        let all: Vec<Result<Vec<u32>>> = texts.par_iter().map(|text| self.encode(text.as_ref())).collect();
        all.into_iter().collect()
    }

    /// Every id is smaller than this: what a model's embedding table must have rows for.
    pub fn vocabulary(&self) -> u32 {
        self.vocabulary
    }
}

/// The tokenizer that a GGUF file describes.
fn from_gguf(gguf: &Gguf) -> Result<tokenizers::Tokenizer> {
    let file = gguf.name();
    let model = gguf.text(MODEL)?;
    if model != "gpt2" {
        return Err(gguf.refuse(MODEL, &format!("{model:?} is not supported, \"gpt2\" is")));
    }
    let tokens = gguf.texts(TOKENS)?;
    let kinds = gguf.integers(KINDS)?;
    if kinds.len() != tokens.len() {
        return Err(gguf.refuse(KINDS, &format!("it has {} elements for {} tokens", kinds.len(), tokens.len())));
    }
    let vocabulary: Vocab = tokens.iter().cloned().zip(0..).collect();
    if vocabulary.len() != tokens.len() {
        return Err(gguf.refuse(TOKENS, "a token is there twice"));
    }
    let merge = |merge: &String| {
        let (left, right) = merge.split_once(' ')?;
        Some((left.to_owned(), right.to_owned()))
    };
    let merges: Option<Vec<_>> = gguf.texts(MERGES)?.iter().map(merge).collect();
    let merges = merges.ok_or_else(|| gguf.refuse(MERGES, "an element is no pair of tokens"))?;

    // The pre-tokenizers of the models that these names come from, as their tokenizer.json files have them.
    let words = |digits: &str| -> Result<PreTokenizerWrapper> {
        let pattern = format!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        );
        let split = || Split::new(SplitPattern::Regex(pattern), SplitDelimiterBehavior::Isolated, false);
        let bytes = ByteLevel::new(false, true, false);
        Ok(Sequence::new(vec![guarded(file, split)?.into(), bytes.into()]).into())
    };
    let bytes = ByteLevel::new(false, true, true);
    let pre = gguf.text(PRE)?;
    let (pre_tokenizer, whole_words) = match pre {
        "gpt-2" => (bytes.into(), false),
        "smollm" => (Sequence::new(vec![Digits::new(true).into(), bytes.into()]).into(), false),
        "llama-bpe" => (words(r"\p{N}{1,3}")?, true),
        "qwen2" => (words(r"\p{N}")?, false),
        other => {
            let problem = format!("{other:?} is not supported; smollm, llama-bpe, gpt-2 and qwen2 are");
            return Err(gguf.refuse(PRE, &problem));
        }
    };
    let model =
        guarded(file, || BPE::builder().vocab_and_merges(vocabulary, merges).ignore_merges(whole_words).build())?;
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
    if pre == "qwen2" {
        tokenizer.with_normalizer(Some(NFC));
    }
    let added: Vec<AddedToken> = tokens
        .iter()
        .zip(kinds)
        .filter(|(_, kind)| SPECIAL.contains(kind) || **kind == USER_DEFINED)
        .map(|(token, kind)| AddedToken::from(token.clone(), SPECIAL.contains(kind)).normalized(false))
        .collect();
    guarded(file, || Ok(tokenizer.add_tokens(&added)))?;
    Ok(tokenizer)
}

/// A chat template, as transformers renders it. The clock is left out (`strftime_now`): templates that know the date where
/// they can have it take a fixed one without, and a score must not depend on the day.
struct Template {
    environment: Environment<'static>,
    file: String,
    /// Texts of special tokens that templates name, such as `bos_token`.
    tokens: BTreeMap<String, String>,
}

/// What of `tokenizer_config.json` matters here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    chat_template: Option<Templates>,
    bos_token: Option<Token>,
    eos_token: Option<Token>,
    unk_token: Option<Token>,
    pad_token: Option<Token>,
}

/// One template or several with names.
#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Several(Vec<Named>),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

/// A special token, with or without its properties.
#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Object { content: String },
}

impl Template {
    fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let texts = gguf.texts(TOKENS)?;
        let mut tokens = BTreeMap::new();
        for (name, key) in [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")] {
            let key = format!("tokenizer.ggml.{key}_token_id");
            if gguf.value(&key).is_some() {
                let id = gguf.integer(&key, None)?;
                let text = usize::try_from(id).ok().and_then(|id| texts.get(id));
                let text = text.ok_or_else(|| gguf.refuse(&key, &format!("there is no token {id}")))?;
                tokens.insert(format!("{name}_token"), text.clone());
            }
        }
        Self::new(gguf.name(), gguf.text(TEMPLATE)?.to_owned(), tokens)
    }

    fn from_folder(folder: &Path) -> Result<Self> {
        let (alone, path) = (folder.join("chat_template.jinja"), folder.join("tokenizer_config.json"));
        let fields: Fields = read_json(&path)?.unwrap_or_default();
        let tokens = [
            ("bos_token", fields.bos_token),
            ("eos_token", fields.eos_token),
            ("unk_token", fields.unk_token),
            ("pad_token", fields.pad_token),
        ];
        let text = |token| match token {
            Token::Text(content) | Token::Object { content } => content,
        };
        let tokens = tokens.into_iter().filter_map(|(name, token)| Some((name.to_owned(), text(token?)))).collect();
        if alone.is_file() {
            let source = std::fs::read_to_string(&alone).map_err(|error| Error::io(&alone, error))?;
            return Self::new(&alone.display().to_string(), source, tokens);
        }
        let source = match fields.chat_template {
            Some(Templates::One(source)) => Some(source),
            Some(Templates::Several(several)) => {
                several.into_iter().find(|named| named.name == "default").map(|named| named.template)
            }
            None => None,
        };
        let file = path.display().to_string();
        let source = source.ok_or_else(|| refuse(&file, "it is missing, and there is no chat_template.jinja"))?;
        Self::new(&file, source, tokens)
    }

    fn new(file: &str, source: String, tokens: BTreeMap<String, String>) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| refuse(file, &error.to_string()))?);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |problem: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, problem))
        });
        guarded(file, || Ok(environment.add_template_owned("chat_template", source)?))
            .map_err(|error| refuse(file, &problem(&error)))?;
        Ok(Self { environment, file: file.to_owned(), tokens })
    }

    fn refuse(&self, problem: &str) -> Error {
        refuse(&self.file, problem)
    }

    /// The text of a dialogue of roles and contents, up to where the assistant is to answer.
    fn render(&self, messages: &[(&str, &str)]) -> Result<String> {
        let messages: Vec<_> = messages.iter().map(|&(role, content)| context! { role, content }).collect();
        let tokens = &self.tokens;
        let render = || {
            let template = self.environment.get_template("chat_template")?;
            // Without tools and documents transformers says that they are none, which is not undefined.
            let context =
                context! { messages, add_generation_prompt => true, tools => (), documents => (), ..tokens.clone() };
            Ok(template.render(context)?)
        };
        guarded(&self.file, render).map_err(|error| self.refuse(&problem(&error)))
    }

    /// What stands before and after the sentinel.
    fn around<'a>(&self, rendered: &'a str) -> Result<(&'a str, &'a str)> {
        rendered
            .split_once(SENTINEL)
            .filter(|(_, after)| !after.contains(SENTINEL))
            .ok_or_else(|| self.refuse("it does not give a message's content once"))
    }
}

fn refuse(file: &str, problem: &str) -> Error {
    Error::File {
        file: file.into(),
        field: "chat_template".into(),
        problem: problem.replace('\n', " "),
        remedy: "name a model whose chat template takes a user's turn and an assistant's".into(),
    }
}

/// What is wrong, without the place: a template's errors are told under its own name.
fn problem(error: &Error) -> String {
    match error {
        Error::File { problem, .. } => problem.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What templates in wide use are written with. The texts on the right are those of transformers' own Jinja.
    #[test]
    fn templates_render_as_transformers_renders_them() {
        let cases: [(&str, [&str; 2]); 4] = [
            (
                r#"{%- if tools %}
    {{- '<|start|>system\n' }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|start|>system\n' + messages[0].content + '<|end|>\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|start|>' + message.role + '\n' + content + '<|end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- if '</think>' in content %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|start|>' + message.role + '\n' + content }}
        {{- '<|end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}"#,
                [
                    "<|start|>user\n Hi\n<|end|>\n<|start|>assistant\n",
                    "<|start|>user\nQ.<|end|>\n<|start|>assistant\n b<|end|>\n<|start|>user\nAgain.<|end|>\n<|start|>assistant\n",
                ],
            ),
            (
                r#"{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start|>system\n\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|end|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start|>' + message['role'] + '\n\n'+ message['content'] | trim + '<|end|>' }}
    {%- elif 'tool_calls' in message %}
        {{- raise_exception("no") }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant\n\n' }}
{%- endif %}
"#,
                [
                    "<|start|><|start|>system\n\nToday Date: 26 Jul 2024\n\n<|end|><|start|>user\n\nHi<|end|><|start|>assistant\n\n",
                    "<|start|><|start|>system\n\nToday Date: 26 Jul 2024\n\n<|end|><|start|>user\n\nQ.<|end|><|start|>assistant\n\nA </think>\n b<|end|><|start|>user\n\nAgain.<|end|><|start|>assistant\n\n",
                ],
            ),
            (
                r#"{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}{{ raise_exception('no') }}{% endif %}{% endfor %}"#,
                [
                    "<|start|>[INST]  Hi\n [/INST]",
                    "<|start|>[INST] Q. [/INST]A </think>\n b<|end|>[INST] Again. [/INST]",
                ],
            ),
            (
                r#"{% for message in messages %}
    {% if message.role == 'user' %}
<|start|>{{ message.content }}
    {% else %}
  <|end|>{{ message.content.strip().upper() ~ '!' }}
    {% endif %}
    {% if loop.index > 5 %}{% break %}{% endif %}
{% endfor %}
{{ tools is none }} {{ [1, none, 'x'] | length }}
"#,
                ["<|start|> Hi\n\nTrue 3", "<|start|>Q.\n  <|end|>A </THINK>\n B!\n<|start|>Again.\nTrue 3"],
            ),
        ];
        let tokens = [("bos_token", "<|start|>"), ("eos_token", "<|end|>")];
        let tokens: BTreeMap<_, _> = tokens.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        for (source, [one, two]) in cases {
            let template = Template::new("here", source.to_owned(), tokens.clone()).expect("a template");
            assert_eq!(template.render(&[("user", " Hi\n")]).expect("rendered"), one, "{source}");
            let turns = [("user", "Q."), ("assistant", "A </think>\n b"), ("user", "Again.")];
            assert_eq!(template.render(&turns).expect("rendered"), two, "{source}");
        }
    }
}
