//! A tokenizer as transformers would load it from the same folder.

use serde_json::Value;
use tokenizers::{AddedToken, ModelWrapper, Tokenizer};

use crate::{grammar::GrammarCompiler, pieces, rules::Settings, tekken};

pub struct LoadedTokenizer {
    tokenizer: Tokenizer,
    clean_up: bool,
}

/// Spaces that Python's clean_up_tokenization removes, in its order.
const CLEAN_UP: [(&str, &str); 10] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

impl LoadedTokenizer {
    pub fn new(
        bytes: &[u8],
        is_tekken: bool,
        settings: &Settings,
    ) -> Result<LoadedTokenizer, String> {
        let mut tokenizer = if is_tekken {
            let mut tokenizer = tekken::load(bytes)?;
            let present: Vec<AddedToken> =
                tokenizer.get_added_tokens_decoder().into_values().collect();
            add(&mut tokenizer, settings.tokens_to_add(&present, false, &[]))?;
            tokenizer
        } else {
            load_json(bytes, settings)?
        };
        tokenizer.with_truncation(None).map_err(|e| e.to_string())?;
        tokenizer.with_padding(None);
        tokenizer.set_encode_special_tokens(settings.split_special_tokens());
        let is_bpe = matches!(tokenizer.get_model(), ModelWrapper::BPE(_));
        Ok(LoadedTokenizer { tokenizer, clean_up: settings.clean_up(is_bpe) })
    }

    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>, String> {
        let encoding =
            self.tokenizer.encode_fast(text, add_special_tokens).map_err(|e| e.to_string())?;
        Ok(encoding.get_ids().to_vec())
    }

    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, String> {
        let mut text =
            self.tokenizer.decode(ids, skip_special_tokens).map_err(|e| e.to_string())?;
        if self.clean_up {
            for (from, to) in CLEAN_UP {
                text = text.replace(from, to);
            }
        }
        Ok(text)
    }

    pub fn vocab_size(&self) -> u32 {
        self.tokenizer.get_vocab_size(true) as u32
    }

    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    pub fn pieces(&self) -> Result<Vec<u8>, String> {
        pieces::table(&self.tokenizer, self.clean_up)
    }

    /// `vocab_size`: ids that the model can draw, at least.
    pub fn grammar_compiler(&self, vocab_size: usize) -> Result<GrammarCompiler, String> {
        let mut bytes = pieces::bytes(&self.tokenizer, self.clean_up)?;
        bytes.resize(bytes.len().max(vocab_size), vec![]);
        GrammarCompiler::new(&self.tokenizer, bytes)
    }
}

fn add(tokenizer: &mut Tokenizer, tokens: Vec<AddedToken>) -> Result<(), String> {
    if !tokens.is_empty() {
        tokenizer.add_tokens(tokens).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn load_json(bytes: &[u8], settings: &Settings) -> Result<Tokenizer, String> {
    let mut file: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if !file["model"].is_object() {
        return Err("not a tokenizer.json: it has no \"model\" object".into());
    }
    let listed = added_tokens(&file)?;
    let rebuilt = settings.rewrite(&mut file, bytes);
    if rebuilt {
        file["added_tokens"] = Value::Array(vec![]);
    }
    let mut tokenizer: Tokenizer =
        serde_json::from_value(file).map_err(|e| format!("not a tokenizer.json: {e}"))?;
    let present: Vec<AddedToken> =
        if rebuilt { vec![] } else { listed.iter().map(|(_, token)| token.clone()).collect() };
    add(&mut tokenizer, settings.tokens_to_add(&present, rebuilt, &listed))?;
    Ok(tokenizer)
}

fn added_tokens(file: &Value) -> Result<Vec<(u64, AddedToken)>, String> {
    let Some(list) = file["added_tokens"].as_array() else { return Ok(vec![]) };
    list.iter()
        .map(|entry| {
            let id = entry["id"].as_u64().ok_or("added_tokens: an entry has no id")?;
            let token: AddedToken =
                serde_json::from_value(entry.clone()).map_err(|e| format!("added_tokens: {e}"))?;
            Ok((id, token))
        })
        .collect()
}
