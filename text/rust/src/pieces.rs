//! What each token contributes to decoded text, where that does not depend on its neighbours:
//! decoding a growing sequence then costs one table look-up a token.
//!
//! Layout, little-endian u32: mode, strip_left, count, then count + 1 offsets into the bytes that
//! follow, then count bytes of flags (1: the token stands for one raw byte), then the bytes.

use serde_json::Value;
use tokenizers::Tokenizer;

const WHOLE: u32 = 0; // nothing is certain before the end
const BYTES: u32 = 1; // pieces are bytes of one UTF-8 stream, decoded with replacement
const TEXT: u32 = 2; // pieces are text; a run of raw bytes is text if all of it is valid UTF-8
const TEXT_FIRST: u32 = 3; // as TEXT, but the first token's text is its own decoding

const fn byte_to_char() -> [char; 256] {
    let mut table = ['\0'; 256];
    let (mut byte, mut next) = (0usize, 256u32);
    while byte < 256 {
        let printable = matches!(byte as u8, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
        table[byte] = if printable {
            byte as u8 as char
        } else {
            next += 1;
            match char::from_u32(next - 1) {
                Some(c) => c,
                None => panic!(),
            }
        };
        byte += 1;
    }
    table
}

/// GPT-2's printable stand-ins for the 256 bytes.
pub const BYTE_TO_CHAR: [char; 256] = byte_to_char();

fn char_to_byte(c: char) -> Option<u8> {
    BYTE_TO_CHAR.iter().position(|&other| other == c).map(|byte| byte as u8)
}

enum Plan {
    Whole,
    ByteLevel,
    Fallback { replace: Vec<(String, String)>, strip_left: u32 },
    Metaspace { replacement: String },
}

/// What each id contributes, with its flag, and how the pieces become text (mode, strip_left). No
/// pieces where they depend on their neighbours.
struct Pieces {
    mode: u32,
    strip_left: u32,
    list: Vec<(Vec<u8>, u8)>,
}

fn pieces(tokenizer: &Tokenizer, clean_up: bool) -> Result<Pieces, String> {
    let decoder = serde_json::to_value(tokenizer.get_decoder()).map_err(|e| e.to_string())?;
    let plan = if clean_up { Plan::Whole } else { plan(&decoder) };
    let (mode, strip_left) = match &plan {
        Plan::Whole => (WHOLE, 0),
        Plan::ByteLevel => (BYTES, 0),
        Plan::Fallback { strip_left, .. } => (TEXT, *strip_left),
        Plan::Metaspace { .. } => (TEXT_FIRST, 0),
    };
    let vocab = tokenizer.get_vocab(true);
    let count = if mode == WHOLE { 0 } else { vocab.values().max().map_or(0, |id| id + 1) };
    // Ids are as sparse as the file likes; do not let one huge id allocate the world.
    if count as usize > 16 * vocab.len() + (1 << 20) {
        return Err("token ids are too sparse".into());
    }
    let list = (0..count).map(|id| match tokenizer.id_to_token(id) {
        Some(token) => piece(&plan, token),
        None => (vec![], 2), // decoding skips ids that are no token
    });
    Ok(Pieces { mode, strip_left, list: list.collect() })
}

/// The bytes of each id, where that can be said at all.
pub fn bytes(tokenizer: &Tokenizer, clean_up: bool) -> Result<Vec<Vec<u8>>, String> {
    let pieces = pieces(tokenizer, clean_up)?;
    if pieces.mode == WHOLE {
        return Err("this tokenizer's tokens have no bytes of their own".into());
    }
    Ok(pieces.list.into_iter().map(|(bytes, _)| bytes).collect())
}

pub fn table(tokenizer: &Tokenizer, clean_up: bool) -> Result<Vec<u8>, String> {
    let pieces = pieces(tokenizer, clean_up)?;
    let mut offsets: Vec<u32> = vec![0];
    let (mut flags, mut bytes): (Vec<u8>, Vec<u8>) = (vec![], vec![]);
    for (piece, flag) in &pieces.list {
        bytes.extend(piece);
        flags.push(*flag);
        offsets.push(u32::try_from(bytes.len()).map_err(|_| "the vocabulary is too large")?);
    }
    let mut out: Vec<u8> = vec![];
    let count = pieces.list.len() as u32;
    for word in [pieces.mode, pieces.strip_left, count].iter().chain(&offsets) {
        out.extend(word.to_ne_bytes());
    }
    out.extend(flags);
    out.extend(bytes);
    Ok(out)
}

fn plan(decoder: &Value) -> Plan {
    match decoder["type"].as_str() {
        Some("ByteLevel") => Plan::ByteLevel,
        Some("Metaspace") => match decoder["replacement"].as_str() {
            Some(replacement) => Plan::Metaspace { replacement: replacement.into() },
            None => Plan::Whole,
        },
        Some("Sequence") => {
            decoder["decoders"].as_array().map_or(Plan::Whole, |list| sequence(list))
        }
        _ => Plan::Whole,
    }
}

/// Replace…, ByteFallback, Fuse, and perhaps Strip on the left: the form of SentencePiece BPEs.
fn sequence(decoders: &[Value]) -> Plan {
    let kind = |d: &Value| d["type"].as_str().unwrap_or_default().to_string();
    let mut rest = decoders;
    let mut replace = vec![];
    while let Some((first, tail)) = rest.split_first() {
        let (Some(from), Some(to)) =
            (first["pattern"]["String"].as_str(), first["content"].as_str())
        else {
            break;
        };
        if kind(first) != "Replace" {
            break;
        }
        replace.push((from.to_string(), to.to_string()));
        rest = tail;
    }
    let kinds: Vec<String> = rest.iter().map(kind).collect();
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    match kinds.as_slice() {
        ["ByteFallback", "Fuse"] => Plan::Fallback { replace, strip_left: 0 },
        ["ByteFallback", "Fuse", "Strip"] if rest[2]["content"] == " " && rest[2]["stop"] == 0 => {
            match rest[2]["start"].as_u64().map(u32::try_from) {
                Some(Ok(strip_left)) => Plan::Fallback { replace, strip_left },
                _ => Plan::Whole,
            }
        }
        ["ByteLevel"] if replace.is_empty() => Plan::ByteLevel,
        _ => Plan::Whole,
    }
}

fn piece(plan: &Plan, token: String) -> (Vec<u8>, u8) {
    match plan {
        Plan::Whole => (vec![], 0),
        Plan::ByteLevel => {
            let bytes: Option<Vec<u8>> = token.chars().map(char_to_byte).collect();
            (bytes.unwrap_or_else(|| token.into_bytes()), 0)
        }
        Plan::Fallback { replace, .. } => {
            let text = replace.iter().fold(token, |text, (from, to)| text.replace(from, to));
            let is_byte = text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
            match is_byte
                .then(|| text.get(3..5).and_then(|hex| u8::from_str_radix(hex, 16).ok()))
                .flatten()
            {
                Some(byte) => (vec![byte], 1),
                None => (text.into_bytes(), 0),
            }
        }
        Plan::Metaspace { replacement } => {
            (token.replace(replacement.as_str(), " ").into_bytes(), 0)
        }
    }
}
