//! C interface of the text library; text/rust_text.h is its other side.
//!
//! Every function that can fail returns null or -1 and leaves a message (text, not terminated) in
//! `*error`, which the caller frees with tt_bytes_free. A panic inside a crate becomes such a
//! message: nothing unwinds into C++. Handles may be shared between threads.

mod continuation;
mod grammar;
mod pieces;
mod python;
mod rules;
mod tekken;
mod template;
mod tokenizer;

use std::panic::{catch_unwind, set_hook, AssertUnwindSafe};
use std::sync::Once;

use grammar::{Grammar, GrammarCompiler, GrammarState};
use template::ChatTemplate;
use tokenizer::LoadedTokenizer;

/// Borrowed input; `data` may be null when `size` is 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slice {
    data: *const u8,
    size: usize,
}

/// Output owned by this library until tt_bytes_free.
#[repr(C)]
pub struct Bytes {
    data: *mut u8,
    size: usize,
    capacity: usize,
}

/// The files of a model folder that decide its tokenizer; absent ones are empty.
#[repr(C)]
pub struct TokenizerFiles {
    tokenizer: Slice,
    is_tekken: bool,
    tokenizer_config: Slice,
    special_tokens_map: Slice,
    added_tokens: Slice,
    model_config: Slice,
}

impl Slice {
    /// The caller keeps the memory alive for the length of the call.
    unsafe fn bytes(&self) -> &[u8] {
        if self.size == 0 {
            return &[];
        }
        std::slice::from_raw_parts(self.data, self.size)
    }

    unsafe fn text(&self) -> Result<&str, String> {
        std::str::from_utf8(self.bytes())
            .map_err(|e| format!("text is not valid UTF-8 at byte {}", e.valid_up_to()))
    }
}

impl TokenizerFiles {
    unsafe fn settings(&self) -> Result<rules::Settings, String> {
        rules::Settings::parse(
            self.tokenizer_config.bytes(),
            self.special_tokens_map.bytes(),
            self.added_tokens.bytes(),
            self.model_config.bytes(),
        )
    }
}

impl Bytes {
    fn new(mut bytes: Vec<u8>) -> Bytes {
        let out = Bytes { data: bytes.as_mut_ptr(), size: bytes.len(), capacity: bytes.capacity() };
        std::mem::forget(bytes);
        out
    }
}

/// Runs `f`, turning an error or a panic into a message in `*error` and `None`.
fn guarded<T>(error: *mut Bytes, f: impl FnOnce() -> Result<T, String>) -> Option<T> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| set_hook(Box::new(|_| {})));
    let message = match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(value)) => return Some(value),
        Ok(Err(message)) => message,
        Err(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string()))
            .unwrap_or_else(|| "unknown panic".into()),
    };
    unsafe { *error = Bytes::new(message.into_bytes()) };
    None
}

fn boxed<T>(value: Option<T>) -> *mut T {
    value.map_or(std::ptr::null_mut(), |v| Box::into_raw(Box::new(v)))
}

/// The end of what `boxed` gave; null is none.
unsafe fn unbox<T>(value: *mut T) {
    if !value.is_null() {
        drop(Box::from_raw(value));
    }
}

/// The bytes that `f` makes in `*out` and 0, or -1 with `*error`.
unsafe fn give(
    out: *mut Bytes,
    error: *mut Bytes,
    f: impl FnOnce() -> Result<Vec<u8>, String>,
) -> i32 {
    match guarded(error, f) {
        Some(bytes) => {
            *out = Bytes::new(bytes);
            0
        }
        None => -1,
    }
}

/// # Safety
/// `files` points at valid slices; `error` at writable memory.
#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_new(
    files: *const TokenizerFiles,
    error: *mut Bytes,
) -> *mut LoadedTokenizer {
    let files = &*files;
    boxed(guarded(error, || {
        LoadedTokenizer::new(files.tokenizer.bytes(), files.is_tekken, &files.settings()?)
    }))
}

/// # Safety
/// `tokenizer` came from tt_tokenizer_new and is not used again.
#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_free(tokenizer: *mut LoadedTokenizer) {
    unbox(tokenizer)
}

/// Ids as native-endian u32 in `*out`. 0, or -1 with `*error`.
///
/// # Safety
/// Pointers are valid for the call.
#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_encode(
    tokenizer: *const LoadedTokenizer,
    text: Slice,
    add_special_tokens: bool,
    out: *mut Bytes,
    error: *mut Bytes,
) -> i32 {
    give(out, error, || {
        let ids = (*tokenizer).encode(text.text()?, add_special_tokens)?;
        Ok(ids.iter().flat_map(|id| id.to_ne_bytes()).collect())
    })
}

/// # Safety
/// `ids` holds `count` values; the other pointers are valid for the call.
#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_decode(
    tokenizer: *const LoadedTokenizer,
    ids: *const u32,
    count: usize,
    skip_special_tokens: bool,
    out: *mut Bytes,
    error: *mut Bytes,
) -> i32 {
    let ids = if count == 0 { &[] } else { std::slice::from_raw_parts(ids, count) };
    give(out, error, || Ok((*tokenizer).decode(ids, skip_special_tokens)?.into_bytes()))
}

/// Entries of the vocabulary, added tokens included.
///
/// # Safety
/// `tokenizer` is valid.
#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_vocab_size(tokenizer: *const LoadedTokenizer) -> u32 {
    (*tokenizer).vocab_size()
}

/// The id of a token, or -1.
///
/// # Safety
/// Pointers are valid for the call.
#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_token_id(
    tokenizer: *const LoadedTokenizer,
    token: Slice,
) -> i64 {
    token.text().ok().and_then(|t| (*tokenizer).token_id(t)).map_or(-1, i64::from)
}

/// How to decode piece by piece; see pieces.rs for the layout.
///
/// # Safety
/// Pointers are valid for the call.
#[no_mangle]
pub unsafe extern "C" fn tt_tokenizer_pieces(
    tokenizer: *const LoadedTokenizer,
    out: *mut Bytes,
    error: *mut Bytes,
) -> i32 {
    give(out, error, || (*tokenizer).pieces())
}

/// `templates`: a JSON object, template name → source. `special_tokens`: the same files as for the
/// tokenizer; its own `tokenizer` slice is not read.
///
/// # Safety
/// Pointers are valid for the call.
#[no_mangle]
pub unsafe extern "C" fn tt_template_new(
    templates: Slice,
    files: *const TokenizerFiles,
    error: *mut Bytes,
) -> *mut ChatTemplate {
    let files = &*files;
    boxed(guarded(error, || {
        ChatTemplate::new(templates.text()?, files.settings()?.template_variables())
    }))
}

/// # Safety
/// `chat_template` came from tt_template_new and is not used again.
#[no_mangle]
pub unsafe extern "C" fn tt_template_free(chat_template: *mut ChatTemplate) {
    unbox(chat_template)
}

/// `context`: JSON object of template variables, as apply_chat_template's arguments.
///
/// # Safety
/// Pointers are valid for the call.
#[no_mangle]
pub unsafe extern "C" fn tt_template_render(
    chat_template: *const ChatTemplate,
    context: Slice,
    out: *mut Bytes,
    error: *mut Bytes,
) -> i32 {
    give(out, error, || Ok((*chat_template).render(context.text()?)?.into_bytes()))
}

/// Compiles grammars for this tokenizer and a model that draws from `vocab_size` ids.
///
/// # Safety
/// Pointers are valid for the call.
#[no_mangle]
pub unsafe extern "C" fn tt_grammars_new(
    tokenizer: *const LoadedTokenizer,
    vocab_size: u32,
    error: *mut Bytes,
) -> *mut GrammarCompiler {
    boxed(guarded(error, || (*tokenizer).grammar_compiler(vocab_size as usize)))
}

/// The bit of tt_grammar_allowed that stands for the end of the text.
///
/// # Safety
/// `grammars` is valid.
#[no_mangle]
pub unsafe extern "C" fn tt_grammars_end(grammars: *const GrammarCompiler) -> u32 {
    (*grammars).end()
}

/// # Safety
/// `grammars` came from tt_grammars_new and is not used again.
#[no_mangle]
pub unsafe extern "C" fn tt_grammars_free(grammars: *mut GrammarCompiler) {
    unbox(grammars)
}

/// `source` is a JSON schema, or a regular expression that the whole text must match.
///
/// # Safety
/// Pointers are valid for the call.
#[no_mangle]
pub unsafe extern "C" fn tt_grammar_new(
    grammars: *const GrammarCompiler,
    is_regex: bool,
    source: Slice,
    error: *mut Bytes,
) -> *mut Grammar {
    boxed(guarded(error, || {
        let source = source.text()?;
        if is_regex {
            (*grammars).regex(source)
        } else {
            (*grammars).json_schema(source)
        }
    }))
}

/// # Safety
/// `grammar` came from tt_grammar_new and is not used again.
#[no_mangle]
pub unsafe extern "C" fn tt_grammar_free(grammar: *mut Grammar) {
    unbox(grammar)
}

/// # Safety
/// Pointers are valid for the call.
#[no_mangle]
pub unsafe extern "C" fn tt_grammar_start(
    grammar: *const Grammar,
    error: *mut Bytes,
) -> *mut GrammarState {
    boxed(guarded(error, || (*grammar).start()))
}

/// Fills `count` words, as GrammarState::allowed says. 0, or -1 with `*error`.
///
/// # Safety
/// `words` holds `count` values; one thread at a time uses `state`.
#[no_mangle]
pub unsafe extern "C" fn tt_grammar_allowed(
    state: *mut GrammarState,
    words: *mut u32,
    count: usize,
    error: *mut Bytes,
) -> i32 {
    let words = std::slice::from_raw_parts_mut(words, count);
    guarded(error, || (*state).allowed(words)).map_or(-1, |_| 0)
}

/// 1: nothing may follow; 0: something may or must; -1 with `*error`.
///
/// # Safety
/// One thread at a time uses `state`.
#[no_mangle]
pub unsafe extern "C" fn tt_grammar_accept(
    state: *mut GrammarState,
    token: u32,
    error: *mut Bytes,
) -> i32 {
    guarded(error, || (*state).accept(token)).map_or(-1, i32::from)
}

/// # Safety
/// `state` came from tt_grammar_start and is not used again.
#[no_mangle]
pub unsafe extern "C" fn tt_grammar_state_free(state: *mut GrammarState) {
    unbox(state)
}

/// # Safety
/// `bytes` was filled by this library and is not used again.
#[no_mangle]
pub unsafe extern "C" fn tt_bytes_free(bytes: Bytes) {
    if !bytes.data.is_null() {
        drop(Vec::from_raw_parts(bytes.data, bytes.size, bytes.capacity));
    }
}
