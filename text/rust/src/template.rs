//! Chat templates as transformers' apply_chat_template renders them.

use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Serde, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Value as Json};

use crate::{continuation, python};

/// About 64 MB of data or a million instructions: far above any real chat, small enough to end.
const FUEL: u64 = 1_000_000;
const REASONING_FIELDS: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

pub struct ChatTemplate {
    environment: Environment<'static>,
    names: Vec<String>,
    special_tokens: Vec<(String, String)>,
}

impl ChatTemplate {
    pub fn new(
        templates: &str,
        special_tokens: Vec<(String, String)>,
    ) -> Result<ChatTemplate, String> {
        let sources: Map<String, Json> =
            serde_json::from_str(templates).map_err(|e| format!("templates: {e}"))?;
        let mut environment = environment();
        let mut names = vec![];
        for (name, source) in sources {
            let source = source.as_str().ok_or(format!("template {name} is not text"))?;
            environment
                .add_template_owned(name.clone(), without_generation_tags(source))
                .map_err(|e| describe(&e))?;
            names.push(name);
        }
        Ok(ChatTemplate { environment, names, special_tokens })
    }

    pub fn render(&self, context: &str) -> Result<String, String> {
        let context: Map<String, Json> =
            serde_json::from_str(context).map_err(|e| format!("context: {e}"))?;
        let mut variables: Map<String, Json> = Map::new();
        for (name, token) in &self.special_tokens {
            variables.insert(name.clone(), Json::String(token.clone()));
        }
        for name in ["tools", "documents"] {
            variables.insert(name.into(), Json::Null);
        }
        variables.insert("add_generation_prompt".into(), Json::Bool(false));
        for (name, value) in context {
            let value = if name == "messages" { normalised(value)? } else { value };
            variables.insert(name, value);
        }
        if !variables.contains_key("messages") {
            return Err("messages: missing".into());
        }
        let continued = continuation::field(variables.remove("continue_final_message"))?;
        if continued.is_some() && variables["add_generation_prompt"] != Json::Bool(false) {
            return Err(
                "continue_final_message and add_generation_prompt exclude each other".into()
            );
        }
        let name = self.choose(&variables)?;
        let template = self.environment.get_template(name).map_err(|e| describe(&e))?;
        let Some(field) = continued else {
            return template.render(Value::from(Serde(variables))).map_err(|e| describe(&e));
        };
        let text = continuation::mark(
            &mut variables["messages"],
            &field,
            &REASONING_FIELDS,
            template.source(),
        )?;
        let rendered = template.render(Value::from(Serde(variables))).map_err(|e| describe(&e))?;
        continuation::cut(rendered, &text)
    }

    fn choose(&self, variables: &Map<String, Json>) -> Result<&str, String> {
        let has = |name: &str| self.names.iter().any(|n| n == name);
        if has("tool_use") && !variables["tools"].is_null() {
            return Ok("tool_use");
        }
        if has("default") {
            return Ok("default");
        }
        Err(format!(
            "the model has several chat templates and no default: {}",
            self.names.join(", ")
        ))
    }
}

/// Absent instead of null, and reasoning under each name that templates read.
fn normalised(messages: Json) -> Result<Json, String> {
    let Json::Array(messages) = messages else { return Err("messages: not a list".into()) };
    if messages.is_empty() {
        return Err("messages: empty".into());
    }
    let mut out = Vec::with_capacity(messages.len());
    for (i, message) in messages.into_iter().enumerate() {
        let Json::Object(message) = message else {
            return Err(format!("messages[{i}]: not an object"));
        };
        let mut message: Map<String, Json> =
            message.into_iter().filter(|(_, v)| !v.is_null()).collect();
        let reasoning = REASONING_FIELDS.iter().find_map(|key| message.get(*key)).cloned();
        if let Some(reasoning) = reasoning {
            let mut aliased = Map::new();
            let thinking = message.get("thinking").unwrap_or(&reasoning).clone();
            aliased.insert("thinking".into(), thinking);
            aliased.extend(message);
            aliased.insert("reasoning_content".into(), reasoning);
            message = aliased;
        }
        out.push(Json::Object(message));
    }
    Ok(Json::Array(out))
}

fn describe(error: &Error) -> String {
    let mut out = error.detail().map_or_else(|| error.kind().to_string(), str::to_string);
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        out.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    match (error.name(), error.line()) {
        (Some(name), Some(line)) => format!("{out} (template {name}, line {line})"),
        _ => out,
    }
}

fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_syntax(
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().expect("valid"),
    );
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_undefined_behavior(UndefinedBehavior::Lenient);
    env.set_fuel(Some(FUEL));
    env.set_unknown_method_callback(python::method);
    minijinja_contrib::add_to_environment(&mut env);
    env.add_filter("tojson", |value: &Value, args: Rest<Value>, kwargs: Kwargs| {
        python::tojson(value, &args, &kwargs)
    });
    env.add_filter("trim", |value: &Value, chars: Option<&str>| python::trim(value, chars));
    env.add_filter("indent", python::indent);
    env.add_filter("string", |value: &Value| display(value));
    // Python asks for __len__ and __getitem__, which text and mappings have too.
    env.add_test("sequence", |value: &Value| {
        matches!(
            value.kind(),
            ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Undefined
        )
    });
    env.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    env.add_function("strftime_now", |format: Arc<str>| python::strftime_now(&format));
    env.set_formatter(|out, _state, value| {
        out.write_str(&display(value)).map_err(|_| Error::from(ErrorKind::WriteFailure))
    });
    env
}

/// str(value)
fn display(value: &Value) -> String {
    if value.kind() == ValueKind::Number && !value.is_integer() {
        if let Ok(x) = f64::try_from(value.clone()) {
            return python::float_repr(x);
        }
    }
    value.to_string()
}

/// `{% generation %}` marks what the assistant said; it opens a scope and renders nothing itself,
/// as an empty `with` does. Comments and raw blocks are left alone.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%").into_iter().chain(rest.find("{#")).min() {
        let is_comment = rest[open..].starts_with("{#");
        let Some(length) = rest[open..].find(if is_comment { "#}" } else { "%}" }) else { break };
        let tag = &rest[open..open + length];
        let word = tag[2..].trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        out.push_str(&rest[..open]);
        rest = &rest[open + length..];
        match word {
            _ if is_comment => out.push_str(tag),
            "generation" => out.push_str(&tag.replacen("generation", "with", 1)),
            "endgeneration" => out.push_str(&tag.replacen("endgeneration", "endwith", 1)),
            "raw" => {
                out.push_str(tag);
                let end = rest.find("endraw").unwrap_or(rest.len());
                out.push_str(&rest[..end]);
                rest = &rest[end..];
            }
            _ => out.push_str(tag),
        }
    }
    out.push_str(rest);
    out
}
