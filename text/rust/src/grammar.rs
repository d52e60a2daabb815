//! Grammars that a completion must follow: a JSON schema or a regular expression, compiled by the
//! `llguidance` crate against the bytes of each token.
//!
//! The end of the text is one more token behind the vocabulary, so that the grammar need not know
//! which of a model's end tokens will be used.

use std::sync::{Arc, Mutex};

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{json, Value};
use tokenizers::Tokenizer;

/// White space between the parts of JSON is free, but ends: a model that likes spaces must not
/// fill its whole budget with them.
const JSON_SPACE: &str = "[ \\t\\n\\r]{0,64}";

/// One tokenizer's grammars are compiled here; shared between threads.
pub struct GrammarCompiler {
    factory: ParserFactory,
    end: u32,
}

/// A compiled grammar; each completion starts with a matcher of its own.
pub struct Grammar {
    fresh: Mutex<Matcher>,
}

/// Where one completion stands. Used by one thread at a time.
pub struct GrammarState {
    matcher: Matcher,
}

impl GrammarCompiler {
    /// `pieces`: what each id contributes to the text; ids beyond contribute nothing.
    pub fn new(tokenizer: &Tokenizer, pieces: Vec<Vec<u8>>) -> Result<GrammarCompiler, String> {
        let mut words = pieces;
        for (id, token) in tokenizer.get_added_tokens_decoder() {
            if token.special && (id as usize) < words.len() {
                words[id as usize] = special(&token.content); // its name is not text
            }
        }
        let end = u32::try_from(words.len()).map_err(|_| "the vocabulary is too large")?;
        words.push(special("<end of text>"));
        let trie = TokTrie::from(&TokRxInfo::new(end + 1, end), &words);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices)
            .map_err(|e| e.to_string())?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        Ok(GrammarCompiler { factory, end })
    }

    /// The bit that stands for the end of the text.
    pub fn end(&self) -> u32 {
        self.end
    }

    pub fn json_schema(&self, source: &str) -> Result<Grammar, String> {
        let mut schema: Value = serde_json::from_str(source).map_err(|e| e.to_string())?;
        if let Some(object) = schema.as_object_mut() {
            object.insert("x-guidance".into(), json!({ "whitespace_pattern": JSON_SPACE }));
        }
        self.compile(TopLevelGrammar::from_json_schema(schema))
    }

    pub fn regex(&self, source: &str) -> Result<Grammar, String> {
        self.compile(TopLevelGrammar::from_regex(source))
    }

    fn compile(&self, grammar: TopLevelGrammar) -> Result<Grammar, String> {
        let matcher = Matcher::new(self.factory.create_parser(grammar));
        match matcher.get_error() {
            Some(error) => Err(error),
            None => Ok(Grammar { fresh: Mutex::new(matcher) }),
        }
    }
}

impl Grammar {
    pub fn start(&self) -> Result<GrammarState, String> {
        let fresh = self.fresh.lock().map_err(|_| "the grammar broke in another thread")?;
        Ok(GrammarState { matcher: fresh.deep_clone() })
    }
}

impl GrammarState {
    /// One bit a token that may come next, bit i of the words for id i; the bit behind the last id
    /// of the vocabulary says that the text may end here.
    pub fn allowed(&mut self, words: &mut [u32]) -> Result<(), String> {
        let mask = self.matcher.compute_mask_or_eos().map_err(|e| e.to_string())?;
        words.fill(0);
        let known = mask.as_slice();
        let shared = known.len().min(words.len());
        words[..shared].copy_from_slice(&known[..shared]);
        Ok(())
    }

    /// Takes the token that was drawn. True when nothing may follow it.
    pub fn accept(&mut self, token: u32) -> Result<bool, String> {
        self.matcher.consume_token(token).map_err(|e| e.to_string())?;
        Ok(self.matcher.is_stopped())
    }
}

fn special(name: &str) -> Vec<u8> {
    let mut word = vec![TokTrie::SPECIAL_TOKEN_MARKER];
    word.extend(name.bytes());
    word
}
