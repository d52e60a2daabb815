//! Python's ways that chat templates rely on and minijinja does not bring: json.dumps, strftime,
//! and the remaining string methods.

use minijinja::value::{from_args, Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// str.isspace, which counts four separators that Unicode's White_Space does not.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// repr(float): shortest digits, exponent outside 1e-4 … 1e16.
pub fn float_repr(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let scientific = format!("{x:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    if x != 0.0 && !(-4..16).contains(&power) {
        let sign = if power < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", power.abs());
    }
    let plain = format!("{x}");
    if plain.contains('.') {
        plain
    } else {
        plain + ".0"
    }
}

/// Options of json.dumps.
struct Json {
    ensure_ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

impl Json {
    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&number(value)),
            ValueKind::String => self.quote(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.group('[', ']', items, depth, out, |item, out| {
                    self.write(item, depth + 1, out)
                })?;
            }
            ValueKind::Map => {
                let mut items: Vec<(String, Value)> = vec![];
                for key in value.try_iter()? {
                    items.push((self.key(&key)?, value.get_item(&key)?));
                }
                if self.sort_keys {
                    items.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.group('{', '}', items, depth, out, |(key, item), out| {
                    self.quote(key, out);
                    out.push_str(&self.key_separator);
                    self.write(item, depth + 1, out)
                })?;
            }
            kind => return Err(invalid(format!("Object of type {kind} is not JSON serializable"))),
        }
        Ok(())
    }

    fn group<T>(
        &self,
        open: char,
        close: char,
        items: Vec<T>,
        depth: usize,
        out: &mut String,
        write: impl Fn(&T, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(open);
        let empty = items.is_empty();
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.push_str(&self.item_separator);
            }
            self.new_line(depth + 1, out);
            write(item, out)?;
        }
        if !empty {
            self.new_line(depth, out);
        }
        out.push(close);
        Ok(())
    }

    fn new_line(&self, depth: usize, out: &mut String) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            out.push_str(&indent.repeat(depth));
        }
    }

    fn key(&self, key: &Value) -> Result<String, Error> {
        Ok(match key.kind() {
            ValueKind::String => key.as_str().unwrap_or_default().to_string(),
            ValueKind::None => "null".into(),
            ValueKind::Bool => (if key.is_true() { "true" } else { "false" }).into(),
            ValueKind::Number => number(key),
            kind => {
                return Err(invalid(format!(
                    "keys must be str, int, float, bool or None, not {kind}"
                )))
            }
        })
    }

    fn quote(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && c > '~') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    match f64::try_from(value.clone()) {
        Ok(x) if x.is_nan() => "NaN".into(),
        Ok(x) if x.is_infinite() => (if x > 0.0 { "Infinity" } else { "-Infinity" }).into(),
        Ok(x) => float_repr(x),
        Err(_) => value.to_string(),
    }
}

/// tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False)
pub fn tojson(value: &Value, positional: &[Value], kwargs: &Kwargs) -> Result<String, Error> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let mut given: Vec<Value> = positional.to_vec();
    if given.len() > names.len() {
        return Err(invalid("tojson: too many arguments"));
    }
    for name in &names[given.len()..] {
        given.push(kwargs.get::<Option<Value>>(name)?.unwrap_or(Value::from(())));
    }
    kwargs.assert_all_used()?;
    let indent = match given[1].kind() {
        ValueKind::None | ValueKind::Undefined => None,
        ValueKind::String => given[1].as_str().map(str::to_string),
        _ => {
            let count = given[1].as_i64().ok_or_else(|| invalid("tojson: indent is no number"))?;
            Some(" ".repeat(count.clamp(0, 64) as usize))
        }
    };
    let mut separators =
        ((if indent.is_none() { ", " } else { "," }).to_string(), ": ".to_string());
    if !given[2].is_none() && !given[2].is_undefined() {
        let pair: Vec<String> = given[2].try_iter()?.map(|v| v.to_string()).collect();
        if let [item, key] = pair.as_slice() {
            separators = (item.clone(), key.clone());
        } else {
            return Err(invalid("tojson: separators is no pair"));
        }
    }
    let json = Json {
        ensure_ascii: given[0].is_true(),
        indent,
        item_separator: separators.0,
        key_separator: separators.1,
        sort_keys: given[3].is_true(),
    };
    let mut out = String::new();
    json.write(value, 0, &mut out)?;
    Ok(out)
}

/// datetime.now().strftime(format)
pub fn strftime_now(format: &str) -> Result<String, Error> {
    let format =
        std::ffi::CString::new(format).map_err(|_| invalid("strftime_now: NUL in format"))?;
    let mut buffer = vec![0u8; 1024];
    // SAFETY: both calls write only into the buffers given; localtime_r is the thread-safe form.
    let written = unsafe {
        let now = libc::time(std::ptr::null_mut());
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&now, &mut parts).is_null() {
            return Err(invalid("strftime_now: no local time"));
        }
        libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), format.as_ptr(), &parts)
    };
    buffer.truncate(written);
    String::from_utf8(buffer).map_err(|_| invalid("strftime_now: result is not UTF-8"))
}

fn strip(text: &str, chars: Option<&str>, left: bool, right: bool) -> String {
    let cut = |c: char| chars.map_or_else(|| is_space(c), |set| set.contains(c));
    let mut text = text;
    if left {
        text = text.trim_start_matches(cut);
    }
    if right {
        text = text.trim_end_matches(cut);
    }
    text.to_string()
}

/// The `trim` filter: str.strip.
pub fn trim(value: &Value, chars: Option<&str>) -> String {
    strip(&value.to_string(), chars, true, true)
}

/// The `indent` filter: indent(text, width=4, first=False, blank=False); width may be text.
pub fn indent(
    text: &str,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let width = width.or(kwargs.get("width")?).unwrap_or(Value::from(4));
    let first = first.or(kwargs.get("first")?).unwrap_or(false);
    let blank = blank.or(kwargs.get("blank")?).unwrap_or(false);
    kwargs.assert_all_used()?;
    let indention = match width.as_str() {
        Some(text) => text.to_string(),
        None => " ".repeat(width.as_usize().unwrap_or(0).min(1 << 10)),
    };
    let mut out = String::new();
    for (i, line) in text.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        let wanted = if i == 0 { first } else { blank || !line.is_empty() };
        if wanted {
            out.push_str(&indention);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// str.title: a letter after anything that is no letter is upper case, the others lower.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_uppercase() || c.is_lowercase();
    }
    out
}

fn split_whitespace(text: &str, limit: Option<usize>) -> Vec<Value> {
    let mut out = vec![];
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        if limit == Some(out.len()) {
            out.push(Value::from(rest.trim_end_matches(is_space)));
            return out;
        }
        let end = rest.find(is_space).unwrap_or(rest.len());
        out.push(Value::from(&rest[..end]));
        rest = rest[end..].trim_start_matches(is_space);
    }
    out
}

fn rsplit(text: &str, separator: Option<&str>, limit: Option<usize>) -> Result<Vec<Value>, Error> {
    let Some(separator) = separator else {
        if limit.is_none() {
            return Ok(split_whitespace(text, None));
        }
        return Err(invalid("rsplit: a limit needs a separator"));
    };
    if separator.is_empty() {
        return Err(invalid("empty separator"));
    }
    let mut parts: Vec<Value> = match limit {
        Some(limit) => text.rsplitn(limit + 1, separator).map(Value::from).collect(),
        None => text.rsplit(separator).map(Value::from).collect(),
    };
    parts.reverse();
    Ok(parts)
}

fn limit_of(limit: Option<i64>) -> Option<usize> {
    limit.and_then(|n| usize::try_from(n).ok())
}

/// Methods of Python's types; those not handled here are minijinja-contrib's.
pub fn method(
    state: &mut State,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        if let Some(result) = string_method(text, name, args) {
            return result;
        }
    }
    if value.kind() == ValueKind::Map && name == "copy" {
        let () = from_args(args)?;
        return Ok(value.clone());
    }
    if value.kind() == ValueKind::Seq && name == "index" {
        let (item,): (Value,) = from_args(args)?;
        let at = value.try_iter()?.position(|other| other == item);
        return at.map(Value::from).ok_or_else(|| invalid("value is not in list"));
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

fn string_method(text: &str, name: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    Some(match name {
        "strip" | "lstrip" | "rstrip" => from_args::<(Option<&str>,)>(args)
            .map(|(chars,)| Value::from(strip(text, chars, name != "rstrip", name != "lstrip"))),
        "split" if matches!(args.first().map(Value::kind), None | Some(ValueKind::None)) => {
            from_args::<(Option<&str>, Option<i64>)>(args)
                .map(|(_, limit)| Value::from(split_whitespace(text, limit_of(limit))))
        }
        "title" => from_args::<()>(args).map(|()| Value::from(title(text))),
        "rsplit" => from_args::<(Option<&str>, Option<i64>)>(args)
            .and_then(|(separator, limit)| rsplit(text, separator, limit_of(limit)))
            .map(Value::from),
        "removeprefix" => from_args::<(&str,)>(args)
            .map(|(prefix,)| Value::from(text.strip_prefix(prefix).unwrap_or(text))),
        "removesuffix" => from_args::<(&str,)>(args)
            .map(|(suffix,)| Value::from(text.strip_suffix(suffix).unwrap_or(text))),
        "partition" => from_args::<(&str,)>(args).map(|(separator,)| {
            let (head, tail) = text.split_once(separator).unwrap_or((text, ""));
            let found = if text.contains(separator) { separator } else { "" };
            Value::from_iter([head, found, tail].map(Value::from))
        }),
        "rpartition" => from_args::<(&str,)>(args).map(|(separator,)| {
            let (head, tail) = text.rsplit_once(separator).unwrap_or(("", text));
            let found = if text.contains(separator) { separator } else { "" };
            Value::from_iter([head, found, tail].map(Value::from))
        }),
        "index" => from_args::<(&str,)>(args).and_then(|(part,)| match text.find(part) {
            Some(at) => Ok(Value::from(text[..at].chars().count())),
            None => Err(invalid("substring not found")),
        }),
        "zfill" => from_args::<(usize,)>(args).map(|(width,)| Value::from(zfill(text, width))),
        "ljust" | "rjust" => from_args::<(usize, Option<&str>)>(args).map(|(width, fill)| {
            let missing = width.min(1 << 16).saturating_sub(text.chars().count());
            let pad = fill.unwrap_or(" ").repeat(missing);
            Value::from(if name == "ljust" {
                format!("{text}{pad}")
            } else {
                format!("{pad}{text}")
            })
        }),
        _ => return None,
    })
}

fn zfill(text: &str, width: usize) -> String {
    let missing = width.min(1 << 16).saturating_sub(text.chars().count());
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(rest) => text.split_at(text.len() - rest.len()),
        None => ("", text),
    };
    format!("{sign}{}{digits}", "0".repeat(missing))
}
