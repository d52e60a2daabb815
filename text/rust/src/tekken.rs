//! Mistral's tekken.json: byte strings in rank order become a byte-level BPE.

use std::collections::HashMap;

use serde_json::{json, Map, Value};
use tokenizers::{AddedToken, Tokenizer};

use crate::pieces::BYTE_TO_CHAR;

/// Specials of the first version of the format, which does not list them.
const FIRST_SPECIALS: [&str; 14] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "<pad>",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
];

const MAX_SPECIALS: u64 = 1 << 20;

pub fn load(bytes: &[u8]) -> Result<Tokenizer, String> {
    let file: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let config = &file["config"];
    let pattern =
        config["pattern"].as_str().ok_or("not a tekken.json: it has no config.pattern")?;
    let specials = specials(&file)?;
    let entries = file["vocab"].as_array().ok_or("not a tekken.json: it has no vocab list")?;
    let inner = match config["default_vocab_size"].as_u64() {
        None => entries.len(),
        Some(size) => (size as usize)
            .checked_sub(specials.len())
            .ok_or("config.default_vocab_size is smaller than the number of special tokens")?
            .min(entries.len()),
    };
    let tokens = entries[..inner]
        .iter()
        .enumerate()
        .map(|(rank, entry)| {
            let text =
                entry["token_bytes"].as_str().ok_or(format!("vocab[{rank}] has no token_bytes"))?;
            base64(text).ok_or(format!("vocab[{rank}].token_bytes is not base64"))
        })
        .collect::<Result<Vec<Vec<u8>>, String>>()?;

    let (vocab, merges) = vocabulary(&tokens, &specials)?;
    let definition = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
             "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
             "use_regex": false}]},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false,
                           "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                    "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "fuse_unk": false, "byte_fallback": false,
                  "ignore_merges": true, "vocab": vocab, "merges": merges},
    });
    let mut tokenizer: Tokenizer = serde_json::from_value(definition).map_err(|e| e.to_string())?;
    let added: Vec<AddedToken> =
        specials.iter().map(|s| AddedToken::from(s.as_str(), true)).collect();
    tokenizer.add_special_tokens(added).map_err(|e| e.to_string())?;
    Ok(tokenizer)
}

/// Special tokens in id order, with the filler that reserves ids.
fn specials(file: &Value) -> Result<Vec<String>, String> {
    let mut out: Vec<String> = vec![];
    match file["special_tokens"].as_array() {
        None => out.extend(FIRST_SPECIALS.map(str::to_string)),
        Some(list) => {
            let mut ranked = list
                .iter()
                .map(|entry| {
                    Some((entry["rank"].as_u64()?, entry["token_str"].as_str()?.to_string()))
                })
                .collect::<Option<Vec<_>>>()
                .ok_or("special_tokens: an entry lacks rank or token_str")?;
            ranked.sort();
            if ranked.iter().enumerate().any(|(i, (rank, _))| *rank != i as u64) {
                return Err("special_tokens: ranks must count up from 0".into());
            }
            out.extend(ranked.into_iter().map(|(_, token)| token));
        }
    }
    let count = file["config"]["default_num_special_tokens"].as_u64().unwrap_or(out.len() as u64);
    if count > MAX_SPECIALS {
        return Err("config.default_num_special_tokens is absurdly large".into());
    }
    for i in out.len() as u64..count {
        out.push(format!("<SPECIAL_{i}>"));
    }
    Ok(out)
}

/// A merge is every split of a token into two tokens, in the order of the whole's rank and then of
/// the halves' ranks.
fn vocabulary(
    tokens: &[Vec<u8>],
    specials: &[String],
) -> Result<(Map<String, Value>, Vec<Value>), String> {
    let mut ranks: HashMap<&[u8], usize> = HashMap::with_capacity(tokens.len());
    for (rank, token) in tokens.iter().enumerate() {
        ranks.insert(token, rank);
    }
    let printable =
        |bytes: &[u8]| -> String { bytes.iter().map(|b| BYTE_TO_CHAR[*b as usize]).collect() };
    let mut vocab = Map::with_capacity(tokens.len() + specials.len());
    let mut merges = vec![];
    for (rank, token) in tokens.iter().enumerate() {
        if ranks[token.as_slice()] != rank {
            return Err(format!("vocab[{rank}] is listed twice"));
        }
        vocab.insert(printable(token), json!(rank + specials.len()));
        let mut splits: Vec<(usize, usize, usize)> = (1..token.len())
            .filter_map(|at| Some((*ranks.get(&token[..at])?, *ranks.get(&token[at..])?, at)))
            .collect();
        splits.sort();
        for (_, _, at) in splits {
            merges.push(json!([printable(&token[..at]), printable(&token[at..])]));
        }
    }
    for (id, token) in specials.iter().enumerate() {
        vocab.insert(token.clone(), json!(id));
    }
    Ok((vocab, merges))
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0u32);
    for c in text.trim_end_matches('=').bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}
