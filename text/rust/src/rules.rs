//! What transformers 5 makes of the files around tokenizer.json: which class reads it, which
//! tokens are added to it, and which special tokens a chat template sees.

use serde_json::{json, Map, Value};
use tokenizers::AddedToken;

const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// Classes that put their own normaliser, pre-tokeniser and decoder in place of the file's.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Class {
    AsFile,
    Llama,
    Qwen2,
    Gpt2,
}

/// A special token as configured: its text, and its flags where the configuration states them.
#[derive(Clone, Debug)]
struct Special {
    content: String,
    token: Option<AddedToken>,
}

pub struct Settings {
    config: Map<String, Value>,
    model_type: String,
    declared_class: Option<String>,
    has_added_tokens_decoder: bool,
    added: Vec<(u64, AddedToken)>,         // sorted by id
    named: Vec<(String, Option<Special>)>, // None: set to null on purpose
    extra: Vec<Special>,
}

fn object(bytes: &[u8], file: &str) -> Result<Map<String, Value>, String> {
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(format!("{file}: not a JSON object")),
        Err(e) => Err(format!("{file}: {e}")),
    }
}

/// AddedToken as transformers serialises it. `normalized` is the opposite of `special` unless given.
fn added_token(map: &Map<String, Value>, special: Option<bool>) -> Option<AddedToken> {
    let flag = |key: &str| map.get(key).and_then(Value::as_bool);
    let special = special.or_else(|| flag("special")).unwrap_or(false);
    let content = map.get("content")?.as_str()?;
    Some(
        AddedToken::from(content, special)
            .single_word(flag("single_word").unwrap_or(false))
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false))
            .normalized(flag("normalized").unwrap_or(!special)),
    )
}

fn special_of(value: &Value, force_special: Option<bool>) -> Option<Special> {
    match value {
        Value::String(s) => Some(Special { content: s.clone(), token: None }),
        Value::Object(map) => {
            let token = added_token(map, force_special)?;
            Some(Special { content: token.content.clone(), token: Some(token) })
        }
        _ => None,
    }
}

impl Settings {
    pub fn parse(
        tokenizer_config: &[u8],
        special_tokens_map: &[u8],
        added_tokens: &[u8],
        model_config: &[u8],
    ) -> Result<Settings, String> {
        let config = object(tokenizer_config, "tokenizer_config.json")?;
        let model = object(model_config, "config.json")?;
        let text = |map: &Map<String, Value>, key: &str| {
            map.get(key).and_then(Value::as_str).map(str::to_string)
        };
        let mut settings = Settings {
            model_type: text(&model, "model_type").unwrap_or_default(),
            declared_class: text(&config, "tokenizer_class")
                .or_else(|| text(&model, "tokenizer_class")),
            has_added_tokens_decoder: false,
            added: vec![],
            named: vec![],
            extra: vec![],
            config,
        };
        settings.read_config();
        if !settings.has_added_tokens_decoder {
            settings.read_legacy(
                &object(special_tokens_map, "special_tokens_map.json")?,
                &object(added_tokens, "added_tokens.json")?,
            );
        }
        settings.added.sort_by_key(|(id, _)| *id);
        Ok(settings)
    }

    fn read_config(&mut self) {
        if let Some(Value::Object(decoder)) = self.config.get("added_tokens_decoder") {
            self.has_added_tokens_decoder = true;
            for (id, token) in decoder {
                let token = token.as_object().and_then(|map| added_token(map, None));
                if let (Ok(id), Some(token)) = (id.parse(), token) {
                    self.added.push((id, token));
                }
            }
        }
        let config = self.config.clone();
        for (key, value) in &config {
            let known = NAMED.contains(&key.as_str());
            if known && value.is_null() {
                self.set_named(key, None);
            } else if known || (key.ends_with("_token") && value.is_string()) {
                if let Some(special) = special_of(value, None) {
                    self.set_named(key, Some(special));
                }
            }
        }
        let extra = match config.get("extra_special_tokens") {
            Some(v) if !is_empty(v) => Some(v),
            _ => config.get("additional_special_tokens"),
        };
        self.read_extra(extra);
    }

    fn read_extra(&mut self, extra: Option<&Value>) {
        match extra {
            Some(Value::Array(list)) => {
                for special in list.iter().filter_map(|v| special_of(v, Some(true))) {
                    if !self.extra.iter().any(|e| e.content == special.content) {
                        self.extra.push(special);
                    }
                }
            }
            Some(Value::Object(map)) => {
                for (name, value) in map {
                    if let Some(special) = special_of(value, None) {
                        self.set_named(name, Some(special));
                    }
                }
            }
            _ => {}
        }
    }

    /// Files that older versions wrote beside a tokenizer_config.json without added_tokens_decoder.
    fn read_legacy(&mut self, special_map: &Map<String, Value>, added: &Map<String, Value>) {
        for (key, value) in special_map {
            if key == "extra_special_tokens" || key == "additional_special_tokens" {
                self.read_extra(Some(value));
            } else if let Some(special) = special_of(value, Some(true)) {
                self.set_named(key, Some(special));
            }
        }
        for (content, id) in added {
            let special =
                self.named.iter().filter_map(|(_, s)| s.as_ref()).any(|s| s.content == *content)
                    || self.extra.iter().any(|s| s.content == *content);
            if let Some(id) = id.as_u64() {
                self.added.push((id, AddedToken::from(content.as_str(), special)));
            }
        }
    }

    fn set_named(&mut self, name: &str, special: Option<Special>) {
        match self.named.iter_mut().find(|(n, _)| n == name) {
            Some(entry) => entry.1 = special,
            None => self.named.push((name.to_string(), special)),
        }
    }

    /// The choice AutoTokenizer makes for the model families we load.
    fn class(&self, byte_level_file: bool) -> Class {
        let declared = self.declared_class.as_deref().map(|c| c.trim_end_matches("Fast"));
        let named = |name: Option<&str>| match name {
            Some("LlamaTokenizer") => Class::Llama,
            Some("Qwen2Tokenizer") => Class::Qwen2,
            Some("GPT2Tokenizer") => Class::Gpt2,
            _ => Class::AsFile,
        };
        let registered = match self.model_type.as_str() {
            "qwen2" | "qwen3" => Some("Qwen2Tokenizer"),
            "mistral" | "ministral" | "ministral3" => Some("TokenizersBackend"),
            _ => None,
        };
        let Some(declared) = declared else { return named(registered) };
        // Many Llama 3 derivatives declare the Llama 2 class beside a byte-level file.
        if declared == "LlamaTokenizer" && self.model_type != "qwen2" && byte_level_file {
            return Class::AsFile;
        }
        match registered {
            Some(name) if name != declared => match self.model_type.as_str() {
                "qwen2" => Class::Qwen2,
                "qwen3" => named(Some(declared)),
                _ => Class::AsFile,
            },
            _ => named(Some(declared)),
        }
    }

    fn class_of(&self, file: Option<&[u8]>) -> Class {
        self.class(
            file.is_some_and(|bytes| bytes.windows(11).any(|window| window == b"\"ByteLevel\"")),
        )
    }

    /// Special tokens that a class assumes when the configuration names none.
    fn defaults(class: Class) -> &'static [(&'static str, &'static str)] {
        match class {
            Class::AsFile => &[],
            Class::Llama => &[("unk_token", "<unk>"), ("bos_token", "<s>"), ("eos_token", "</s>")],
            Class::Qwen2 => &[
                ("unk_token", "<|endoftext|>"),
                ("eos_token", "<|endoftext|>"),
                ("pad_token", "<|endoftext|>"),
            ],
            Class::Gpt2 => &[
                ("unk_token", "<|endoftext|>"),
                ("bos_token", "<|endoftext|>"),
                ("eos_token", "<|endoftext|>"),
            ],
        }
    }

    fn named_tokens(&self, class: Class) -> Vec<(String, Special)> {
        let mut out: Vec<(String, Special)> = vec![];
        for (name, content) in Self::defaults(class) {
            if !self.named.iter().any(|(n, _)| n == name) {
                out.push((name.to_string(), Special { content: content.to_string(), token: None }));
            }
        }
        for (name, special) in &self.named {
            if let Some(special) = special {
                out.push((name.clone(), special.clone()));
            }
        }
        out
    }

    /// bos_token and the like, as a template sees them.
    pub fn template_variables(&self) -> Vec<(String, String)> {
        // Byte-level files only matter for the Llama class, whose defaults a byte-level model's
        // configuration overrides anyway.
        self.named_tokens(self.class_of(None)).into_iter().map(|(n, s)| (n, s.content)).collect()
    }

    /// Rewrites tokenizer.json as the class that reads it would; true when it did.
    pub fn rewrite(&self, file: &mut Value, bytes: &[u8]) -> bool {
        let class = self.class_of(Some(bytes));
        if class == Class::AsFile || file["model"]["type"] != "BPE" {
            return false;
        }
        let prefix_space = self.config.get("add_prefix_space").and_then(Value::as_bool);
        let byte_level = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": true});
        for (key, value) in [
            ("dropout", Value::Null),
            ("unk_token", Value::Null),
            ("continuing_subword_prefix", Value::Null),
            ("end_of_word_suffix", Value::Null),
            ("fuse_unk", json!(class == Class::Llama)),
            ("byte_fallback", json!(class == Class::Llama)),
            ("ignore_merges", json!(false)),
        ] {
            file["model"][key] = value;
        }
        file["normalizer"] = Value::Null;
        file["decoder"] = byte_level.clone();
        match class {
            Class::Llama => self.rewrite_llama(file, prefix_space.unwrap_or(true)),
            Class::Qwen2 => {
                file["normalizer"] = json!({"type": "NFC"});
                file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
                    {"type": "Split", "pattern": {"Regex": QWEN2_PATTERN}, "behavior": "Isolated",
                     "invert": false},
                    {"type": "ByteLevel", "add_prefix_space": prefix_space.unwrap_or(false),
                     "trim_offsets": true, "use_regex": false}]});
            }
            _ => {
                file["pre_tokenizer"] = byte_level;
                file["pre_tokenizer"]["add_prefix_space"] = json!(prefix_space.unwrap_or(false));
            }
        }
        true
    }

    fn rewrite_llama(&self, file: &mut Value, prefix_space: bool) {
        let legacy = self.config.get("legacy").and_then(Value::as_bool).unwrap_or(false);
        let scheme = match (prefix_space, legacy) {
            (false, _) => "never",
            (true, true) => "always",
            (true, false) => "first",
        };
        file["pre_tokenizer"] = json!({
            "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if prefix_space {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        file["decoder"] = json!({"type": "Sequence", "decoders": decoders});
    }

    /// Tokens that loading adds to those of the file, in order. `present` are the file's own.
    pub fn tokens_to_add(
        &self,
        present: &[AddedToken],
        rebuilt: bool,
        file: &[(u64, AddedToken)],
    ) -> Vec<AddedToken> {
        let mut out: Vec<AddedToken> = vec![];
        let source: Vec<(u64, AddedToken)> = if self.has_added_tokens_decoder {
            self.added.clone()
        } else {
            // The file's own list wins over added_tokens.json under the same id.
            let mut merged = self.added.clone();
            merged.retain(|(id, _)| !file.iter().any(|(other, _)| other == id));
            merged.extend(file.iter().cloned());
            merged.sort_by_key(|(id, _)| *id);
            merged
        };
        let same = |a: &AddedToken, b: &AddedToken| {
            a.content == b.content
                && (a.single_word, a.lstrip, a.rstrip, a.normalized, a.special)
                    == (b.single_word, b.lstrip, b.rstrip, b.normalized, b.special)
        };
        for (_, token) in &source {
            if !present.iter().any(|p| same(p, token)) {
                out.push(token.clone());
            }
        }
        let class = if rebuilt { self.class_of(None) } else { Class::AsFile };
        let named = self.named_tokens(class);
        for token in &mut out {
            if named.iter().any(|(_, s)| s.content == token.content) {
                token.special = true;
            }
        }
        for special in named.iter().map(|(_, s)| s).chain(&self.extra) {
            let known = present.iter().chain(&out).any(|t| t.content == special.content);
            if !known {
                let token = special.token.clone();
                out.push(token.unwrap_or_else(|| AddedToken::from(special.content.as_str(), true)));
            }
        }
        out
    }

    pub fn split_special_tokens(&self) -> bool {
        self.flag("split_special_tokens")
    }

    /// Whether decoding tidies spaces before punctuation; never for BPE unless forced.
    pub fn clean_up(&self, is_bpe: bool) -> bool {
        self.flag("clean_up_tokenization_spaces")
            && (!is_bpe
                || self.flag(
                    "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",
                ))
    }

    fn flag(&self, key: &str) -> bool {
        self.config.get(key).and_then(Value::as_bool).unwrap_or(false)
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
        _ => false,
    }
}

const QWEN2_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
